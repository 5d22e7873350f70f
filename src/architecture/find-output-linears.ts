import type { NodeProto } from 'onnx-buf';
import { intAttribute } from '../onnx/attributes.js';
import { type GraphIndex, nodeLabel, producerNode, qualifiedOp } from '../onnx/graph-index.js';
import { dataInputs, influencedValues, outputsOf, type Partition } from '../onnx/partition.js';
import type { ValueFacts } from '../onnx/value-facts.js';
import { LINEAR_LAYERS } from '../operators/linear.js';
import { operatorOf } from '../operators/table.js';
import type { OutputLinear, Unrecognised } from './layout.js';
import { partKind } from './part-kind.js';

/** A linear layer that writes to the residual stream, with its node index. */
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
  /** Values that depend on the tokens. */
  readonly dataValues: ReadonlySet<string>;
  readonly stage: number;
  /** Value on the stream that the stage writes. */
  readonly output: string;
}

/** Whether a node is a linear layer: a product with a constant as its second operand. */
export function isLinearNode(index: GraphIndex, at: number): boolean {
  const node = index.nodes[at]!;
  return (
    LINEAR_LAYERS.has(qualifiedOp(node)) &&
    index.constants.has(node.input[1] ?? '') &&
    !index.constants.has(node.input[0] ?? '')
  );
}

/** Mixtures of experts found in a stage, and near misses. */
interface FoundMixtures {
  readonly sites: readonly { readonly trace: { readonly nodes: readonly number[] } }[];
  readonly stops: readonly SearchStop[];
}

/**
 * Walks back from a stage's output to the linear layers that write it, through biases, norms, scales and reshapes. A
 * node with an unknown operator is returned with the reason. Of a sum with a mixture of experts only the other terms
 * are followed (shared experts).
 *
 * @param mixtures result of `findExperts` for the stage
 */
export function findOutputLinears(
  search: OutputSearch,
  mixtures: FoundMixtures,
): { linears: LinearSite[]; stops: SearchStop[] } {
  const { index, partition, facts, dataValues, stage, output } = search;
  const linears: LinearSite[] = [];
  const stops: SearchStop[] = [];
  const nodes = partition.stages[stage] ?? [];
  const routers = nodes.filter((at) => operatorOf(index.nodes[at]!)?.tokens === 'experts');
  const chosen = mixtures.sites.flatMap(({ trace }) =>
    outputsOf(index, trace.nodes).filter((value) => dataValues.has(value)),
  );
  const routed = influencedValues(
    nodes.map((at) => index.nodes[at]!),
    [...outputsOf(index, routers), ...chosen],
  );
  const [router] = routers;
  if (router !== undefined && mixtures.sites.length + mixtures.stops.length === 0)
    stops.push(stopAtRouter(index.nodes[router]!));
  // A linear layer to another width does not write to the stream: it mixes several streams (AltUp of Gemma 3n).
  const width = facts.get(output)?.dims.at(-1);
  const seen = new Set<number>();
  const pending = [output];
  for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
    const at = index.producerOf.get(value);
    if (at === undefined || seen.has(at) || partition.stageOf.get(value) !== stage || !dataValues.has(value)) continue;
    seen.add(at);
    const node = index.nodes[at]!;
    if (routed.has(value) && (isLinearNode(index, at) || !(isSumOrUnary(search, node) || isNorm(search, node))))
      continue;
    if (isLinearNode(index, at)) {
      const site = readLinear(search, at);
      if ('reason' in site) stops.push(site);
      else if (site.outputCount === width) linears.push(site);
    } else if (typeof operatorOf(node)?.axis !== 'function') {
      const kind = partKind({ index, stageOf: partition.stageOf, stage, value });
      stops.push({
        kind: kind === 'ffn' ? 'unknown' : kind,
        node: nodeLabel(node),
        opType: qualifiedOp(node),
        reason: `${qualifiedOp(node)} writes to the residual stream and is not a linear layer`,
      });
    } else if (node.opType !== 'Shape') {
      pending.push(
        ...node.input.filter((input) => !partition.cuts.includes(input) && !scalesTokens(search, { input, value })),
      );
    }
  }
  return { linears: linears.sort((a, b) => a.nodeIndex - b.nodeIndex), stops };
}

/** Operators that add their inputs; the third of `GatedAdd` scales the second. */
const SUMS: ReadonlySet<string> = new Set(['Add', 'Sub', 'Sum', 'com.microsoft.GatedAdd']);

/** Whether a node sums its inputs, or transforms the only one that depends on tokens. */
function isSumOrUnary({ dataValues }: OutputSearch, node: NodeProto): boolean {
  return SUMS.has(qualifiedOp(node)) || dataInputs(node).filter((value) => dataValues.has(value)).length === 1;
}

/** Whether a node scales a value by a factor per token that is computed from this value alone, as norms in primitives do. */
function isNorm(search: OutputSearch, { opType, input: [first = '', second = ''], output }: NodeProto): boolean {
  const value = output[0] ?? '';
  return (
    isFactorOf(search, { scaled: first, factor: second, value }) ||
    (opType === 'Mul' && isFactorOf(search, { scaled: second, factor: first, value }))
  );
}

/** Whether a factor per token is computed from the value that it scales, and from nothing else. */
function isFactorOf(search: OutputSearch, { scaled, factor, value }: Record<'scaled' | 'factor' | 'value', string>) {
  const { index, dataValues } = search;
  let source = scalesTokens(search, { input: factor, value }) ? factor : '';
  while (source !== '' && source !== scaled) {
    const producer = producerNode(index, source);
    const inputs = new Set(producer && dataInputs(producer).filter((each) => dataValues.has(each)));
    [source = ''] = inputs.size === 1 ? inputs : [];
  }
  return source !== '' && source === scaled;
}

/** Whether an input is one factor per token for all channels, such as the gate of a shared expert. */
function scalesTokens({ facts }: OutputSearch, { input, value }: { input: string; value: string }): boolean {
  const [size, width] = [input, value].map((name) => facts.get(name)?.dims.at(-1));
  return size === 1 && width !== undefined && width > 1;
}

function stopAtRouter(node: NodeProto): SearchStop {
  return {
    kind: 'experts',
    node: nodeLabel(node),
    opType: qualifiedOp(node),
    reason:
      'it routes tokens to experts whose nodes have an unknown form; docs/supported-models.md lists the known forms',
  };
}

/** The linear layer of a product, or why it cannot be pruned. */
export function readLinear({ index, facts, partition, stage }: OutputSearch, at: number): LinearSite | SearchStop {
  const node = index.nodes[at]!;
  const stop = (reason: string): SearchStop => ({
    kind: partKind({ index, stageOf: partition.stageOf, stage, value: node.input[0] ?? '' }),
    node: nodeLabel(node),
    opType: qualifiedOp(node),
    reason,
  });
  if (followsLinear(index, node.input[0] ?? ''))
    return {
      ...stop('no activation is between it and another linear layer, so that there are no neurons'),
      kind: 'low-rank layer',
    };
  if (intAttribute(node, 'transA', 0) !== 0) return stop('the activation is transposed inside the product');
  let weight = node.input[1] ?? '';
  let inputAxis = intAttribute(node, 'transB', 0) !== 0 ? 1 : 0;
  while (!index.initializers.has(weight)) {
    const producer = producerNode(index, weight);
    const form = producer && operatorOf(producer)?.weight;
    if (producer === undefined || (form !== 'same' && form !== 'transposed')) {
      return stop(
        `its weight comes from ${producer ? nodeLabel(producer) : 'nowhere'}, not from a plain initializer (quantised weights cannot be pruned yet)`,
      );
    }
    if (form === 'transposed') inputAxis = 1 - inputAxis;
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

/** Whether a value is the output of a linear layer, possibly reshaped. */
function followsLinear(index: GraphIndex, value: string): boolean {
  const at = index.producerOf.get(value);
  const node = at === undefined ? undefined : index.nodes[at];
  if (at === undefined || node === undefined) return false;
  return (
    isLinearNode(index, at) || (operatorOf(node)?.tokens === 'layout' && followsLinear(index, node.input[0] ?? ''))
  );
}
