import type { NodeProto } from 'onnx-buf';
import { type GraphIndex, inputsOf, producerNode, qualifiedOp } from '../onnx/graph-index.js';
import { elementCount } from '../onnx/value.js';
import { LAYOUTS } from './expert-site.js';
import type { OutputSearch } from './find-output-linears.js';
import { type NeuronTrace, traceChannels } from './trace-channels.js';

/** Experts whose weights are gathered for each token. */
export interface GatheredExperts {
  /** Nodes that gather them. */
  readonly gathers: readonly number[];
  /** Output of the chosen experts, before the routing weights. */
  readonly expertOutput: string;
  readonly expertCount: number;
  /** Tokens times chosen experts. */
  readonly pairs: number;
}

/**
 * Traces the neurons of experts from the input of their second product; a gathered weight counts as a weight.
 * @returns the reason where they cannot be followed.
 */
export function traceGatheredNeurons(
  search: OutputSearch,
  { gathers, expertOutput, expertCount, pairs }: GatheredExperts,
): NeuronTrace | { readonly reason: string } {
  const { partition, facts, dataValues, stage } = search;
  const dimsOf = (value: string) => facts.get(value)?.dims ?? [];
  const index = withGatheredWeights(search, gathers);
  const found = findSecondProduct(index, expertOutput);
  if ('reason' in found) return found;
  const { inner, axisFromEnd, weight } = found;
  const dims = dimsOf(inner);
  const axis = dims.length - axisFromEnd;
  const [neuronCount = 0] = dims.slice(axis);
  if (elementCount(dims.slice(0, axis)) !== pairs || elementCount(dims.slice(axis + 1)) !== 1)
    return {
      reason: `its neurons "${inner}" are [${dims.join(', ')}], expected ${neuronCount} for each chosen expert`,
    };
  const outcome = traceChannels({
    index,
    facts,
    dataValues,
    stage,
    stageOf: partition.stageOf,
    cuts: new Set(partition.cuts),
    shared: new Set(),
    seed: inner,
    seedAxis: axis,
    channelCount: neuronCount,
  });
  if ('failure' in outcome) return { reason: `${outcome.failure.node}: ${outcome.failure.reason}` };
  const { unitCount, labels, external, nodes } = outcome.trace;
  if (unitCount !== neuronCount) return { reason: 'its neurons can only be removed in runs' };
  const tables = new Set(gathers.map((at) => search.index.nodes[at]!.input[0] ?? ''));
  const invalid = [...external].find(
    (name) => !tables.has(name) || dimsOf(name)[0] !== expertCount || labels.get(name)!.axis === 0,
  );
  if (invalid !== undefined) return { reason: `all experts share "${invalid}", which has numbers for every neuron` };
  const second = sourceOf(index, weight);
  if (!external.has(second)) return { reason: `its second linear layer does not read "${second}" alone` };
  return { unitCount, labels, external, nodes, second: { weight: second }, activations: inner };
}

/** The graph with gathered weights, and values computed only from them, counted as constants. */
function withGatheredWeights({ index, partition, stage }: OutputSearch, gathers: readonly number[]): GraphIndex {
  const gathering = new Set(gathers);
  const constants = new Set(index.constants);
  for (const at of partition.stages[stage] ?? []) {
    const node = index.nodes[at]!;
    if (gathering.has(at) || inputsOf(node).every((value) => constants.has(value)))
      for (const value of node.output) constants.add(value);
  }
  return { ...index, constants };
}

interface SecondProduct {
  /** Value with the neurons, and their axis, counted from the end. */
  readonly inner: string;
  readonly axisFromEnd: 1 | 2;
  /** The gathered weight, as the product reads it. */
  readonly weight: string;
}

/** Walks back from the experts' output, through a bias, to their last product. */
function findSecondProduct(index: GraphIndex, output: string): SecondProduct | { readonly reason: string } {
  for (let value = output; ; ) {
    const node = producerNode(index, value);
    if (node === undefined) return { reason: `its second linear layer is not found after "${value}"` };
    const [a = '', b = ''] = node.input;
    const [isWeightA, isWeightB] = [index.constants.has(a), index.constants.has(b)];
    if (node.opType === 'MatMul' && node.domain === '' && isWeightA !== isWeightB)
      return isWeightA ? { inner: b, axisFromEnd: 2, weight: a } : { inner: a, axisFromEnd: 1, weight: b };
    if (LAYOUTS.has(node.opType)) value = a;
    else if (node.opType === 'Add' && isWeightA !== isWeightB) value = isWeightA ? b : a;
    else return { reason: `its second linear layer is not found after ${qualifiedOp(node)} "${value}"` };
  }
}

/** The stack that a gathered weight comes from. */
function sourceOf(index: GraphIndex, value: string): string {
  const node: NodeProto | undefined = producerNode(index, value);
  return node === undefined ? value : sourceOf(index, node.input[0] ?? '');
}
