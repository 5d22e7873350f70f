import type { NodeProto, ValueInfoProto } from 'onnx-buf';
import type { AxisLabel } from '../architecture/axis-rules/axis-rule.js';
import type { DetectedModel } from '../architecture/detect-layout.js';
import { UnsupportedModelError } from '../errors.js';
import type { TwinFacts } from '../graph/value-facts.js';
import { setWeight } from '../onnx/edit-weights.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { sliceHandle } from '../onnx/slice-handle.js';
import { editGraph, type GraphEditor } from './graph-editor.js';
import { keptPositions, keptUnits } from './kept-positions.js';
import { mendNode } from './mend-nodes.js';

export interface Removal {
  readonly detected: DetectedModel;
  readonly facts: TwinFacts;
  /** Module of the layout to narrow. */
  readonly module: number;
  /** Units that stay, ascending. For grouped queries every group that stays must keep the same number. */
  readonly keep: Int32Array;
}

/**
 * Takes units out of one module, in place: weights, biases and caches lose their positions, and every number that spoke
 * of them is mended. A weight or constant that others read too is copied first. Nothing is read: weights become slices.
 *
 * @throws UnsupportedModelError when a node cannot say what is left.
 */
export function removeUnits(model: OnnxModel, { detected, facts, module, keep }: Removal): void {
  const trace = detected.traces[module];
  const graph = model.proto.graph;
  if (trace === undefined || graph === undefined) throw new UnsupportedModelError(`the model has no module ${module}`);
  if (keep.length === trace.unitCount) return;
  const editor = editGraph(model);
  const kept = keptUnits(keep, trace.groupOfUnit);
  const touchedOutputs = new Set(
    trace.nodes.flatMap((at) => detected.index.nodes[at]!.output.filter((value) => value !== '')),
  );
  const touched = graph.node.filter(({ output }) => output.some((value) => touchedOutputs.has(value)));
  const context = { editor, trace, facts, kept };
  for (const [value, label] of trace.labels) {
    const positions = keptPositions(label, kept);
    if (positions.length < label.codes.length)
      narrowValue(editor, { value, label, positions, touched, detected, module });
  }
  for (const node of touched) mendNode(node, context);
  const stale = new Set([...trace.labels.keys(), ...trace.repeats.map(({ value }) => value)]);
  graph.valueInfo = graph.valueInfo.filter(({ name }) => !stale.has(name));
}

interface Narrowing {
  readonly value: string;
  readonly label: AxisLabel;
  readonly positions: Int32Array;
  /** Nodes of the module. */
  readonly touched: readonly NodeProto[];
  readonly detected: DetectedModel;
  readonly module: number;
}

/** Narrows a value that comes from outside the module; values made inside follow by themselves. */
function narrowValue(editor: GraphEditor, narrowing: Narrowing): void {
  const { value, label, positions, touched, detected, module } = narrowing;
  const { index, partition, layout } = detected;
  const { model } = editor;
  const graph = model.proto.graph!;
  const declared = [...graph.input, ...graph.output].filter(({ name }) => name === value);
  for (const info of declared) narrowDeclaration(info, label.axis, positions.length);
  const madeInside = index.producerOf.has(value) && partition.stageOf.get(value) === layout.modules[module]?.segment;
  if (madeInside) return;
  const readers = editor.consumersOf(value).filter((node) => touched.includes(node));
  const [firstReader] = readers;
  const handle = model.weights.get(value);
  if (handle !== undefined) {
    const narrowed = sliceHandle(handle, label.axis, positions);
    if (readers.length === editor.consumersOf(value).length) setWeight(model, value, narrowed);
    else editor.rewire(readers, value, editor.addWeight(`${value}/pruned_${module}`, narrowed));
    return;
  }
  const computedFromWeight = index.constants.has(value) && editor.producerOf(value)?.opType !== 'Constant';
  if (declared.length > 0 || computedFromWeight || firstReader === undefined) return;
  const gathered = editor.freshName(`${value}/pruned_${module}`);
  editor.insertBefore(firstReader, {
    op: 'Gather',
    inputs: [value, editor.addInts([...positions])],
    outputs: [gathered],
    attributes: { axis: label.axis },
  });
  editor.rewire(readers, value, gathered);
}

function narrowDeclaration(info: ValueInfoProto, axis: number, size: number): void {
  const dim = info.type?.value.case === 'tensorType' ? info.type.value.value.shape?.dim[axis] : undefined;
  if (dim?.value.case === 'dimValue') dim.value = { case: 'dimValue', value: BigInt(size) };
}
