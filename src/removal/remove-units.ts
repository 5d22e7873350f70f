import type { GraphProto, NodeProto } from 'onnx-buf';
import type { DetectedModel } from '../architecture/detect-layout.js';
import type { ChannelTrace, ExpertBranch } from '../architecture/trace-channels.js';
import { UnsupportedModelError } from '../errors.js';
import { INT32 } from '../onnx/data-types.js';
import { setWeight } from '../onnx/edit-weights.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { opsetOf } from '../onnx/opset-of.js';
import { sliceHandle } from '../onnx/slice-handle.js';
import { sliceStack } from '../onnx/slice-stack.js';
import type { TwoRunFacts } from '../onnx/value-facts.js';
import type { AxisLabel } from '../operators/axis-rule.js';
import { editGraph, type GraphEditor } from './graph-editor.js';
import { type RemainingUnits, remainingPositions, remainingUnits } from './remaining-positions.js';
import { updateNode } from './update-nodes.js';

export interface Removal {
  readonly detected: DetectedModel;
  readonly facts: TwoRunFacts;
  /** Module of the layout to narrow. */
  readonly module: number;
  /** Units that remain, ascending. For grouped queries every group that remains must keep the same number. */
  readonly keep: Int32Array;
  /**
   * Neuron units that remain in each expert of `keep`, expert by expert, ascending, the same number in each. Absent: all.
   */
  readonly neurons?: Int32Array | undefined;
}

/**
 * Removes units from one module, in place: from weights, biases and caches, and updates every size that depends on them. A
 * weight or constant with other readers is copied first. Weights are not read: they become slices.
 *
 * @throws UnsupportedModelError when a node cannot express the removal.
 */
export function removeUnits(model: OnnxModel, { detected, facts, module, keep, neurons }: Removal): void {
  const trace = detected.traces[module];
  if (trace === undefined || model.proto.graph === undefined)
    throw new UnsupportedModelError(`the model has no module ${module}`);
  if (keep.length < trace.unitCount) {
    cutTrace(model, { detected, facts, trace, remaining: remainingUnits(keep, trace.groupOfUnit), module });
    if (trace.branches !== undefined) removeBranches(editGraph(model), trace.branches, keep);
  }
  if (neurons !== undefined) cutNeurons(model, { detected, facts, module, keep, neurons });
}

/** Removes neurons from the remaining experts of a mixture: each expert has its own remaining neurons. */
function cutNeurons(
  model: OnnxModel,
  { detected, facts, module, keep, neurons }: Removal & Required<Pick<Removal, 'neurons'>>,
): void {
  const { neurons: found, ...trace } = detected.traces[module]!;
  if (found === undefined)
    throw new UnsupportedModelError(`the neurons inside the experts of module ${module} cannot be removed`);
  const width = neurons!.length / keep.length;
  const neuronSets = Array.from(keep, (_, at) => new Set(neurons!.subarray(at * width, (at + 1) * width)));
  // If other mixtures read the same weights, removing experts made a copy for this one.
  const currentName = (name: string) => (model.weights.has(prunedName(name, module)) ? prunedName(name, module) : name);
  const renamed = { labels: new Map(), external: new Set<string>() };
  for (const [name, label] of found.labels)
    renamed.labels.set(found.external.has(name) ? currentName(name) : name, label);
  for (const name of found.external) renamed.external.add(currentName(name));
  cutTrace(model, {
    detected,
    facts,
    module,
    trace: { ...trace, ...found, ...renamed },
    // Nodes depend only on the number of neurons.
    remaining: remainingUnits(
      Int32Array.from({ length: width }, (_, unit) => unit),
      undefined,
    ),
    slice: (stack, { axis, unitIds }) =>
      sliceStack(
        stack,
        axis,
        neuronSets.map((units) =>
          Int32Array.from(unitIds.keys()).filter((position) => unitIds[position]! < 0 || units.has(unitIds[position]!)),
        ),
      ),
  });
}

/** A trace of units, and which of them remain. */
export interface TraceCut extends Pick<Removal, 'detected' | 'facts' | 'module'> {
  readonly trace: ChannelTrace;
  readonly remaining: RemainingUnits;
  /** Cuts a weight. Default: the positions of `remaining`. */
  readonly slice?: (weight: TensorHandle, label: AxisLabel) => TensorHandle;
}

/** Removes units from everything that a trace found, in place. @throws UnsupportedModelError when a node cannot express the removal. */
export function cutTrace(model: OnnxModel, { detected, facts, trace, remaining, module, slice }: TraceCut): void {
  const graph = model.proto.graph!;
  const editor = editGraph(model);
  const touchedOutputs = new Set(
    trace.nodes.flatMap((at) => detected.index.nodes[at]!.output.filter((value) => value !== '')),
  );
  const touched = graph.node.filter(({ output }) => output.some((value) => touchedOutputs.has(value)));
  for (const [value, label] of trace.labels) {
    if (remainingPositions(label, remaining).length === label.unitIds.length) continue;
    narrowDeclarations(graph, value, label, remaining);
    if (trace.external.has(value)) narrowExternal(editor, { value, label, remaining, touched, facts, module, slice });
  }
  const context = { editor, trace, index: detected.index, facts, remaining };
  const shapes = graph.node.filter(({ opType, input }) => opType === 'Shape' && isNarrowed(input[0], trace, editor));
  for (const node of new Set([...touched, ...shapes])) updateNode(node, context);
  const stale = new Set([...trace.labels.keys(), ...trace.repeats.map(({ value }) => value)]);
  graph.valueInfo = graph.valueInfo.filter(({ name }) => !stale.has(name));
}

/** Name of the pruned copy of a value that others read unpruned. */
export const prunedName = (value: string, module: number): string => `${value}/pruned_${module}`;

/** Whether a value has become smaller under its old name: one computed in the module, or a graph input. */
function isNarrowed(value: string | undefined, { labels, external }: ChannelTrace, { model }: GraphEditor): boolean {
  if (value === undefined || !labels.has(value)) return false;
  return !external.has(value) || model.proto.graph!.input.some(({ name }) => name === value);
}

interface Narrowing {
  readonly value: string;
  readonly label: AxisLabel;
  readonly remaining: RemainingUnits;
  /** Nodes of the module. */
  readonly touched: readonly NodeProto[];
  readonly facts: TwoRunFacts;
  readonly module: number;
  readonly slice: TraceCut['slice'] | undefined;
}

/** Narrows a value from outside the module, for the module's nodes only; values computed inside shrink with their inputs. */
function narrowExternal(
  editor: GraphEditor,
  { value, label, remaining, touched, facts, module, slice }: Narrowing,
): void {
  const { model } = editor;
  const readers = editor.consumersOf(value).filter((node) => node.opType !== 'Shape' && touched.includes(node));
  const [firstReader] = readers;
  const name = prunedName(value, module);
  const handle = model.weights.get(value);
  if (handle !== undefined) {
    const narrowed = slice?.(handle, label) ?? sliceHandle(handle, label.axis, remainingPositions(label, remaining));
    if (readers.length === editor.consumersOf(value).length) setWeight(model, value, narrowed);
    else editor.rewire(readers, value, editor.addWeight(name, narrowed));
    return;
  }
  const isInput = model.proto.graph!.input.some((info) => info.name === value);
  if (isInput || firstReader === undefined) return;
  editor.rewire(readers, value, gatherRemaining(editor, { value, label, remaining, facts, name }, firstReader));
}

interface RemainingGather extends Pick<Narrowing, 'value' | 'label' | 'remaining' | 'facts'> {
  readonly name: string;
}

/** Gathers the remaining positions of a value that other nodes read in full. @returns Name of the result. */
function gatherRemaining(
  editor: GraphEditor,
  { value, label, remaining, facts, name }: RemainingGather,
  before: NodeProto,
): string {
  const { dims = [] } = facts.first.get(value) ?? {};
  const secondSize = facts.second.get(value)?.dims[label.axis] ?? 0;
  if (secondSize !== label.unitIds.length) {
    const period = repeatedPeriod(label, secondSize);
    if (period === undefined)
      throw new UnsupportedModelError(
        `"${value}" has channels on axis ${label.axis}, whose size depends on batch or window; this cannot be pruned`,
      );
    return gatherRepeated(editor, { value, rank: dims.length, label, period, remaining }, before);
  }
  const gathered = editor.freshName(name);
  editor.insertBefore(before, {
    op: 'Gather',
    inputs: [value, editor.addInts([...remainingPositions(label, remaining)])],
    outputs: [gathered],
    attributes: { axis: label.axis },
  });
  return gathered;
}

function narrowDeclarations(graph: GraphProto, value: string, label: AxisLabel, remaining: RemainingUnits): void {
  for (const info of [...graph.input, ...graph.output].filter(({ name }) => name === value)) {
    const shape = info.type?.value.case === 'tensorType' ? info.type.value.value.shape : undefined;
    const dim = shape?.dim[label.axis];
    if (dim?.value.case === 'dimValue')
      dim.value = { case: 'dimValue', value: BigInt(remainingPositions(label, remaining).length) };
  }
}

/**
 * Removes experts that are separate nodes from the sum of their mixture, and renumbers the others. `tidyModel` drops the
 * unused nodes later.
 *
 * @param keep Experts that remain, ascending.
 */
function removeBranches(editor: GraphEditor, branches: readonly ExpertBranch[], keep: Int32Array): void {
  const nodes = editor.model.proto.graph!.node;
  for (const [at, expert] of keep.entries()) {
    const { test, slot } = branches[expert]!;
    const node = editor.producerOf(test)!;
    const dataType = editor.model.weights.get(node.input[slot]!)?.dataType;
    node.input[slot] = editor.addInts([at], dataType === INT32 ? dataType : undefined);
  }
  const sums = new Set(branches.map(({ term }) => term));
  const additions = nodes.filter(({ opType, input, output }) => {
    const isSum = opType === 'Add' && input.every((value) => sums.has(value));
    if (isSum) sums.add(output[0]!);
    return isSum;
  });
  const last = additions.at(-1)!;
  const [result] = last.output;
  const terms = [...keep].map((expert) => branches[expert]!.term);
  const [first = ''] = terms;
  let sum = first;
  for (const term of terms.slice(1, -1)) {
    const next = editor.freshName(`${term}/sum`);
    editor.insertBefore(last, { op: 'Add', inputs: [sum, term], outputs: [next] });
    sum = next;
  }
  editor.insertBefore(
    last,
    terms.length > 1
      ? { op: 'Add', inputs: [sum, terms.at(-1)!], outputs: [result!] }
      : { op: 'Identity', inputs: [sum], outputs: [result!] },
  );
  for (const addition of additions) nodes.splice(nodes.indexOf(addition), 1);
}

/**
 * Period of the unit ids along an axis whose size depends on the input, such as the heads in batch x heads; `undefined`
 * when they do not repeat in every run.
 * @param secondSize Size of the axis in a run with another batch and window.
 */
function repeatedPeriod({ unitIds }: AxisLabel, secondSize: number): number | undefined {
  const periods = Array.from({ length: unitIds.length }, (_, at) => at + 1);
  const fits = (period: number): boolean =>
    unitIds.length % period === 0 && unitIds.every((code, at) => code === unitIds[at % period]);
  const period = periods.find(fits);
  return period !== undefined && period < unitIds.length && secondSize % period === 0 ? period : undefined;
}

interface RepeatedGather {
  readonly value: string;
  readonly rank: number;
  readonly label: AxisLabel;
  readonly period: number;
  readonly remaining: RemainingUnits;
}

/**
 * Gathers the remaining positions of every period of an axis of any length: `[.., n * period, ..]` is reshaped to
 * `[.., n, period, ..]`, gathered, and flattened again, by nodes before `before`.
 * @returns Name of the result.
 */
function gatherRepeated(editor: GraphEditor, request: RepeatedGather, before: NodeProto): string {
  const { value, rank, label, period, remaining } = request;
  const { axis, unitIds } = label;
  const positions = remainingPositions({ axis, unitIds: unitIds.slice(0, period) }, remaining);
  // A Reshape entry of 0 copies the size at the same index, so an inserted axis of 1 lets later axes keep theirs.
  const shape = (...middle: readonly number[]): string =>
    editor.addInts([...new Array(axis).fill(0), ...middle, ...new Array(rank - axis - 1).fill(0)]);
  const insert = (op: string, inputs: readonly string[], attributes = {}): string => {
    const result = editor.freshName(`${value}/pruned_${op.toLowerCase()}`);
    editor.insertBefore(before, { op, inputs, outputs: [result], attributes });
    return result;
  };
  const changeRank = (op: string, source: string): string =>
    opsetOf(editor.model.proto) < AXES_AS_INPUT
      ? insert(op, [source], { axes: [axis + 1] })
      : insert(op, [source, editor.addInts([axis + 1])]);
  const unfolded = insert('Reshape', [changeRank('Unsqueeze', value), shape(-1, period)]);
  const gathered = insert('Gather', [unfolded, editor.addInts([...positions])], { axis: axis + 1 });
  return changeRank('Squeeze', insert('Reshape', [gathered, shape(-1, 1)]));
}

/** From this opset on, the axes of Unsqueeze and Squeeze are an input. */
const AXES_AS_INPUT = 13;
