import type { NodeProto } from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import type { GraphIndex } from './graph-index.js';
import { inputsOf } from './graph-index.js';

/**
 * A graph cut along its residual stream. Stage 0 makes the first hidden state, stage i (1..n) takes hidden state i-1 to
 * hidden state i, and the last stage makes the rest (logits). A value may be read by any later stage.
 */
export interface Partition {
  /** Hidden states on the stream, in order; `cuts[i]` leaves stage `i`. */
  readonly cuts: readonly string[];
  /** Nodes of each stage, ascending; `cuts.length + 1` stages. Constant nodes belong to no stage: they go wherever they are read. */
  readonly stages: readonly (readonly number[])[];
  /** Stage that makes a value; graph inputs count as stage 0. Constants have none. */
  readonly stageOf: ReadonlyMap<string, number>;
}

/**
 * Values that every path from the token ids to the logits passes through, in order: the places where the graph can be
 * cut with one value in hand. Reading a value's shape is no path.
 */
export function findCutValues(index: GraphIndex, tokenInput: string, logits: string): string[] {
  const onPath = nodesBetween(index, tokenInput, logits);
  const lastReader = new Map<string, number>();
  for (const at of onPath) {
    for (const value of dataInputs(index.nodes[at]!)) lastReader.set(value, at);
  }
  const cuts: string[] = [];
  let live = new Set<string>([tokenInput]);
  for (const at of onPath) {
    const made = index.nodes[at]!.output.filter((value) => lastReader.has(value) || value === logits);
    live = new Set([...live, ...made].filter((value) => (lastReader.get(value) ?? -1) > at || value === logits));
    const [only] = live;
    if (live.size === 1 && only !== undefined && made.includes(only)) cuts.push(only);
  }
  return cuts;
}

/** Cuts the nodes at the given values. @throws UnsupportedModelError when a value is not made by the graph. */
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
  for (const [value, after] of cutAfter) {
    if (stageOf.get(value) !== after - 1) {
      throw new UnsupportedModelError(
        `the graph cannot be cut at "${value}": it is made in stage ${stageOf.get(value) ?? 'none'}, expected ${after - 1}`,
      );
    }
  }
  return { cuts, stages, stageOf };
}

/** Nodes on a data path between two values, ascending. */
function nodesBetween(index: GraphIndex, from: string, to: string): number[] {
  const reached = new Set([from]);
  const forward: number[] = [];
  index.nodes.forEach((node, at) => {
    if (!dataInputs(node).some((value) => reached.has(value))) return;
    forward.push(at);
    for (const value of node.output) if (value !== '') reached.add(value);
  });
  const needed = new Set([to]);
  const onPath: number[] = [];
  for (const at of forward.reverse()) {
    const node = index.nodes[at]!;
    if (!node.output.some((value) => needed.has(value))) continue;
    onPath.push(at);
    for (const value of dataInputs(node)) needed.add(value);
  }
  return onPath.reverse();
}

/** Inputs whose contents, not only shape, the node reads. */
export function dataInputs(node: NodeProto): readonly string[] {
  return node.opType === 'Shape' || node.opType === 'Size' ? [] : inputsOf(node);
}
