import type { NodeProto } from 'onnx-buf';
import { intAttribute } from '../graph/attributes.js';
import { type GraphIndex, nodeLabel, qualifiedOp } from '../graph/graph-index.js';
import type { Partition } from '../graph/partition.js';
import type { ValueFacts } from '../graph/value-facts.js';
import { AXIS_RULES } from './axis-rules/table.js';
import type { OutputLinear, Unrecognised } from './layout.js';
import { partKind } from './part-kind.js';

/** A linear map that writes to the residual stream, with its place in the graph. */
export interface LinearSite extends OutputLinear {
  readonly nodeIndex: number;
}

export interface SearchStop {
  readonly kind: Unrecognised['kind'];
  readonly node: string;
  readonly opType: string;
  readonly reason: string;
}

export interface OutputSearch {
  readonly index: GraphIndex;
  readonly partition: Partition;
  readonly facts: ValueFacts;
  readonly stage: number;
  /** Value on the stream that the stage writes. */
  readonly output: string;
}

/** Products of an activation with a weight that the search ends at. */
const LINEAR_OPS: ReadonlySet<string> = new Set(['MatMul', 'Gemm', 'com.microsoft.FusedMatMul']);

/** Whether a node is a linear map: a product with a constant as its second operand. */
export function isLinearNode(index: GraphIndex, at: number): boolean {
  const node = index.nodes[at]!;
  return (
    LINEAR_OPS.has(qualifiedOp(node)) &&
    index.constants.has(node.input[1] ?? '') &&
    !index.constants.has(node.input[0] ?? '')
  );
}

/**
 * Walks back from a stage's output to the linear maps that write it, through biases, norms, scales and reshapes.
 * Where the walk meets an operator no rule knows, that node is handed back with the reason.
 */
export function findOutputLinears(search: OutputSearch): { linears: LinearSite[]; stops: SearchStop[] } {
  const { index, partition, stage, output } = search;
  const router = partition.stages[stage]?.find((at) => ROUTER_OPS.has(qualifiedOp(index.nodes[at]!)));
  if (router !== undefined) return { linears: [], stops: [stopAtRouter(index.nodes[router]!)] };
  const linears: LinearSite[] = [];
  const stops: SearchStop[] = [];
  const seen = new Set<number>();
  const pending = [output];
  for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
    const at = index.producerOf.get(value);
    if (at === undefined || seen.has(at) || partition.stageOf.get(value) !== stage || index.constants.has(value))
      continue;
    seen.add(at);
    const node = index.nodes[at]!;
    if (isLinearNode(index, at)) {
      const site = readLinear(search, at);
      if ('reason' in site) stops.push(site);
      else linears.push(site);
    } else if (AXIS_RULES[qualifiedOp(node)] === undefined) {
      const kind = partKind({ index, stageOf: partition.stageOf, stage, value });
      stops.push({
        kind: kind === 'ffn' ? 'unknown' : kind,
        node: nodeLabel(node),
        opType: qualifiedOp(node),
        reason: `${qualifiedOp(node)} writes to the residual stream, which is not a linear map`,
      });
    } else if (node.opType !== 'Shape') {
      pending.push(...node.input.filter((input) => !partition.cuts.includes(input)));
    }
  }
  return { linears: linears.sort((a, b) => a.nodeIndex - b.nodeIndex), stops };
}

/** Operators by which a mixture of experts picks the FFNs that a token goes to. */
const ROUTER_OPS: ReadonlySet<string> = new Set(['com.microsoft.MoE', 'com.microsoft.QMoE', 'TopK']);

function stopAtRouter(node: NodeProto): SearchStop {
  return {
    kind: 'experts',
    node: nodeLabel(node),
    opType: qualifiedOp(node),
    reason: 'it routes tokens to experts; mixtures of experts cannot be pruned yet',
  };
}

/** Constant nodes between a weight and its product that keep or swap its two axes. */
const SWAPS: Readonly<Record<string, boolean>> = { Identity: false, Cast: false, Transpose: true };

function readLinear({ index, facts, partition, stage }: OutputSearch, at: number): LinearSite | SearchStop {
  const node = index.nodes[at]!;
  const stop = (reason: string): SearchStop => ({
    kind: partKind({ index, stageOf: partition.stageOf, stage, value: node.input[0] ?? '' }),
    node: nodeLabel(node),
    opType: qualifiedOp(node),
    reason,
  });
  if (intAttribute(node, 'transA', 0) !== 0) return stop('the activation is transposed inside the product');
  let weight = node.input[1] ?? '';
  let inputAxis = intAttribute(node, 'transB', 0) !== 0 ? 1 : 0;
  while (!index.initializers.has(weight)) {
    const producer = index.nodes[index.producerOf.get(weight) ?? -1];
    const swaps = producer && SWAPS[qualifiedOp(producer)];
    if (producer === undefined || swaps === undefined) {
      return stop(
        `its weight comes out of ${producer ? nodeLabel(producer) : 'nowhere'}, not of a plain initializer (quantised weights cannot be pruned yet)`,
      );
    }
    if (swaps) inputAxis = 1 - inputAxis;
    weight = producer.input[0] ?? '';
  }
  const dims = facts.get(weight)?.dims ?? [];
  if (dims.length !== 2) return stop(`its weight "${weight}" has ${dims.length} axes, expected 2`);
  return {
    nodeIndex: at,
    node: nodeLabel(node),
    input: node.input[0] ?? '',
    result: node.output[0] ?? '',
    weight,
    inputAxis: inputAxis === 0 ? 0 : 1,
    inputCount: dims[inputAxis] ?? 0,
    outputCount: dims[1 - inputAxis] ?? 0,
  };
}
