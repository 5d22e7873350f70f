import type { NodeProto } from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import type { GraphIndex } from './graph-index.js';
import { inputsOf, qualifiedOp } from './graph-index.js';
import { isViewOf } from './is-view.js';

/**
 * A graph cut along its residual stream. Stage 0 computes the first hidden state, stage i (1..n) hidden state i from i-1, and
 * the last stage the rest (logits). A value may be read by any later stage.
 */
export interface Partition {
  /** Hidden states on the stream, in order; `cuts[i]` is the output of stage `i`. */
  readonly cuts: readonly string[];
  /** Nodes of each stage, ascending; `cuts.length + 1` stages. Constant nodes belong to no stage: every reading stage includes them. */
  readonly stages: readonly (readonly number[])[];
  /** Stage that computes a value; graph inputs count as stage 0. Constants have none. */
  readonly stageOf: ReadonlyMap<string, number>;
}

/** Operators between the token ids and their embedding that pass the ids on. */
const ID_OPS: ReadonlySet<string> = new Set(['Cast', 'Identity', 'Reshape', 'Flatten', 'Squeeze', 'Unsqueeze']);

/** Operators that look up token ids, in a plain or quantised table. */
const LOOKUPS: ReadonlySet<string> = new Set(['Gather', 'com.microsoft.GatherBlockQuantized']);

/**
 * Nodes that look up token ids in a table, where the hidden state begins. Other uses of the ids (masks of padding
 * tokens, positions) do not count. Empty when the ids are used in another way.
 */
export function findEmbeddings(index: GraphIndex, tokenInput: string): number[] {
  const ids = new Set([tokenInput]);
  const found: number[] = [];
  index.nodes.forEach((node, at) => {
    const [table = '', indices = ''] = node.input;
    if (LOOKUPS.has(qualifiedOp(node)) && ids.has(indices) && index.constants.has(table)) found.push(at);
    if (ID_OPS.has(node.opType) && ids.has(table)) for (const value of node.output) ids.add(value);
  });
  return found;
}

/** Outputs of some nodes. */
export const outputsOf = ({ nodes }: GraphIndex, from: readonly number[]): string[] =>
  from.flatMap((at) => nodes[at]!.output);

/** Values that depend on the contents of some values, not only on their shapes; those values included. */
export function influencedValues(nodes: readonly NodeProto[], sources: Iterable<string>): Set<string> {
  const influenced = new Set(sources);
  for (const node of nodes) {
    if (!dataInputs(node).some((value) => influenced.has(value))) continue;
    for (const value of node.output) if (value !== '') influenced.add(value);
  }
  return influenced;
}

/** Partitions the nodes at the given values. @throws UnsupportedModelError if a value is not computed by the graph. */
export function partitionGraph(index: GraphIndex, cuts: readonly string[]): Partition {
  const stageOf = new Map<string, number>();
  const cutAfter = new Map(cuts.map((value, at) => [value, at + 1]));
  for (const value of index.inputs) stageOf.set(value, 0);
  const stages: number[][] = Array.from({ length: cuts.length + 1 }, () => []);
  index.nodes.forEach((node, at) => {
    const inputs = inputsOf(node).filter((value) => !index.constants.has(value));
    if (inputs.length === 0) return;
    const stage = Math.max(...inputs.map((value) => cutAfter.get(value) ?? stageOf.get(value) ?? 0));
    stages[stage]?.push(at);
    for (const value of node.output) if (value !== '') stageOf.set(value, stage);
  });
  moveInputForms(index, { stages, stageOf });
  moveViews(index, { stages, stageOf }, cutAfter);
  for (const [value, after] of cutAfter) {
    if (stageOf.get(value) !== after - 1) {
      throw new UnsupportedModelError(
        `the graph cannot be cut at "${value}": it is computed in stage ${stageOf.get(value) ?? 'none'}, expected ${after - 1}`,
      );
    }
  }
  return { cuts, stages, stageOf };
}

/** Operators by which exporters cast, rename or slice an input. */
const INPUT_OPS: ReadonlySet<string> = new Set(['Cast', 'Identity', 'Slice']);

/** Moves casts and slices of an input (mostly of a cache) to the only stage that reads their contents. */
function moveInputForms(
  index: GraphIndex,
  { stages, stageOf }: { readonly stages: number[][]; readonly stageOf: Map<string, number> },
): void {
  const [first = []] = stages;
  const forms: number[] = [];
  for (const at of first) {
    const { opType, input } = index.nodes[at]!;
    const [source = '', ...others] = input;
    const isForm = index.inputs.has(source) || forms.includes(index.producerOf.get(source) ?? -1);
    // Transformers joins a cache with an empty one, which the TorchScript exporter leaves out.
    const copies = opType === 'Concat' && others.length === 0;
    if (isForm && (copies || INPUT_OPS.has(opType))) forms.push(at);
  }
  // Last node first, so that chains of such nodes move together.
  for (const at of forms.reverse()) {
    const [result = ''] = index.nodes[at]!.output;
    if (index.outputs.has(result)) continue;
    const readers = (index.consumersOf.get(result) ?? []).map((reader) => index.nodes[reader]!);
    const reading = new Set(
      readers.filter(({ opType }) => opType !== 'Shape').map(({ output: [value = ''] }) => stageOf.get(value)),
    );
    const [stage] = reading;
    if (reading.size !== 1 || stage === undefined || stage === 0) continue;
    first.splice(first.indexOf(at), 1);
    stages[stage] = [...stages[stage]!, at].sort((a, b) => a - b);
    stageOf.set(result, stage);
  }
}

/** Views of a part are not moved: a later stage would have to read the whole value. */
const PARTS: ReadonlySet<string> = new Set(['Gather', 'Slice', 'Split']);

/** Moves views of a hidden state (mostly of keys and values) to the only later stage that reads them. */
function moveViews(
  index: GraphIndex,
  { stages, stageOf }: { readonly stages: number[][]; readonly stageOf: Map<string, number> },
  cuts: { has(value: string): boolean },
): void {
  for (let stage = stages.length - 1; stage > 0; stage -= 1) {
    for (const at of [...stages[stage]!].reverse()) {
      const node = index.nodes[at]!;
      const readers = node.output.flatMap((value) => index.consumersOf.get(value) ?? []);
      const reading = new Set(readers.map((reader) => stageOf.get(index.nodes[reader]!.output[0] ?? '') ?? stage));
      const [later = stage] = reading;
      const isGiven = node.output.some((value) => index.outputs.has(value) || cuts.has(value));
      if (reading.size !== 1 || later <= stage || isGiven || !isViewOf(node, index) || PARTS.has(node.opType)) continue;
      stages[stage] = stages[stage]!.filter((other) => other !== at);
      stages[later] = [...stages[later]!, at].sort((a, b) => a - b);
      for (const value of node.output) stageOf.set(value, later);
    }
  }
}

/** Nodes on a data path from `sources` to a value, inclusive, ascending. */
export function nodesBetween(index: GraphIndex, sources: readonly number[], to: string): number[] {
  const influenced = influencedValues(index.nodes, outputsOf(index, sources));
  const needed = new Set([to]);
  return index.nodes
    .map((node, at) => ({ node, at }))
    .reverse()
    .filter(({ node }) => {
      const isOnPath = node.output.some((value) => needed.has(value) && influenced.has(value));
      if (isOnPath) for (const value of dataInputs(node)) needed.add(value);
      return isOnPath;
    })
    .map(({ at }) => at)
    .reverse();
}

/** Inputs whose contents, not only shape, the node reads. */
export function dataInputs(node: NodeProto): readonly string[] {
  return node.opType === 'Shape' || node.opType === 'Size' ? [] : inputsOf(node);
}
