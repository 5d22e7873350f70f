import type { NodeProto } from 'onnx-buf';
import { type GraphIndex, nodeLabel, producerNode, qualifiedOp } from '../onnx/graph-index.js';
import type { ValueFacts } from '../onnx/value-facts.js';
import {
  type AxisLabel,
  type AxisRule,
  type Finding,
  NeedCoarserUnits,
  NO_UNIT,
  portsOf,
  ReducedTogether,
  type Repeat,
  type RuleSite,
  TraceStop,
} from '../operators/axis-rule.js';
import type { SecondLinear } from '../operators/experts.js';
import { isAttention, missing, type Operator } from '../operators/operator.js';
import { operatorOf } from '../operators/table.js';
import { isLinearNode } from './find-output-linears.js';
import type { Unrecognised } from './layout.js';
import { partKind } from './part-kind.js';

/** All values and nodes that carry a set of units, found by tracing the input channels of a linear layer to their producers. */
export interface ChannelTrace {
  readonly unitCount: number;
  /** Channels of the linear layer's input per unit. */
  readonly unitSize: number;
  /** Heads per unit: more than one if a KV head can only be removed with its query heads. */
  readonly headsPerUnit: number;
  /** Every value that carries units: activations, weights, biases, caches. */
  readonly labels: ReadonlyMap<string, AxisLabel>;
  /** Labelled values from outside the module: weights, caches, masks and tables that others may read too. */
  readonly external: ReadonlySet<string>;
  /** Nodes with a labelled port, ascending. */
  readonly nodes: readonly number[];
  /** KV group of each unit, for grouped queries. */
  readonly groupOfUnit?: Int32Array;
  readonly repeats: readonly Repeat[];
  /** Whether all heads attend to one key and value (multi-query attention). */
  readonly sharesKeyValue: boolean;
  /** Whether its keys and values are shared with other blocks, so that they are not pruned. */
  readonly keepsKeyValues: boolean;
  /** Whether a traced operator mixes tokens. */
  readonly isAttention: boolean;
  /** Whether it is linear attention, whose heads carry a recurrent state. */
  readonly isLinear: boolean;
  /** By expert, where each has its own nodes, and their sum is the mixture's output. */
  readonly branches?: readonly ExpertBranch[];
  /** Only of experts whose neurons can be removed. */
  readonly neurons?: NeuronTrace;
}

/** The neurons inside the experts of a mixture. Weights are stacks, with neurons at the same positions for every expert. */
export interface NeuronTrace extends Pick<ChannelTrace, 'unitCount' | 'labels' | 'external' | 'nodes'> {
  readonly second: SecondLinear;
  /** `[tokens k, neurons]`: activations of the chosen experts' neurons; absent for a fused mixture. */
  readonly activations?: string;
}

export interface TraceFailure {
  readonly node: string;
  readonly opType: string;
  readonly reason: string;
  readonly kind: Unrecognised['kind'];
}

/** An expert with nodes of its own, see `ChannelTrace.branches`. */
export interface ExpertBranch {
  /** Result of the comparison of the chosen experts' numbers with this expert's. */
  readonly test: string;
  /** Input of the comparison that is this expert's number. */
  readonly slot: number;
  /** The expert's term in the mixture's sum. */
  readonly term: string;
}

export type TraceOutcome = { readonly trace: ChannelTrace } | { readonly failure: TraceFailure };

export interface TraceRequest {
  readonly index: GraphIndex;
  readonly facts: ValueFacts;
  /** Stage that makes a value; values of other stages are not followed. */
  readonly stageOf: ReadonlyMap<string, number>;
  readonly stage: number;
  /** Values on the residual stream; channels must never reach them. */
  readonly cuts: ReadonlySet<string>;
  /** Values that depend on the tokens; all others are masks, tables and sizes that blocks may share. */
  readonly dataValues: ReadonlySet<string>;
  /** Token values that several blocks read in addition to the hidden state: per-layer inputs, shared keys and values. */
  readonly shared: ReadonlySet<string>;
  /** Values with labelled channels that other stages may read. Default: none. */
  readonly mayLeave?: ReadonlySet<string>;
  /** Input of the linear layer, channels on its last axis. */
  readonly seed: string;
  /** Default: the last. */
  readonly seedAxis?: number;
  readonly channelCount: number;
}

/** Most walks: channels, then heads, then groups of heads, and one more for each unpruned value. */
const MAX_WALKS = 12;

interface WalkRequest extends TraceRequest {
  /** Values of the module that keep all their channels, because they are reduced together, with the reason. */
  readonly unpruned: ReadonlyMap<string, TraceFailure>;
}

/**
 * Finds the units of a linear layer's input channels, starting with one unit per channel and merging runs of channels
 * where the graph treats them as one (a head). A failure is returned as data with its node.
 */
export function traceChannels(request: TraceRequest): TraceOutcome {
  let unitCount = request.channelCount;
  let headCount: number | undefined;
  const unpruned = new Map<string, TraceFailure>();
  for (let round = 0; round < MAX_WALKS; round += 1) {
    const outcome = walkChannels({ ...request, unpruned }, unitCount);
    if ('failure' in outcome && !('unpruned' in outcome)) return outcome;
    if ('unpruned' in outcome) {
      unpruned.set(outcome.unpruned, outcome.failure);
      continue;
    }
    const [failure] = unpruned.values();
    if ('trace' in outcome && failure !== undefined && !canPruneAfter(outcome.trace, { ...request, unpruned }))
      return { failure };
    if ('trace' in outcome) return { trace: { ...outcome.trace, headsPerUnit: (headCount ?? unitCount) / unitCount } };
    if (outcome.coarser >= unitCount || request.channelCount % outcome.coarser !== 0) {
      const reason = `${request.channelCount} channels cannot be divided into ${outcome.coarser} equal units`;
      return { failure: { ...outcome.at, reason } };
    }
    unitCount = outcome.coarser;
    headCount ??= unitCount;
    unpruned.clear();
  }
  const reason = `the channels cannot be divided into units (last tried: ${unitCount})`;
  return { failure: { node: request.seed, opType: '', reason, kind: 'ffn' } };
}

type WalkOutcome =
  | { readonly trace: Omit<ChannelTrace, 'headsPerUnit'> }
  | { readonly failure: TraceFailure }
  | { readonly coarser: number; readonly at: Omit<TraceFailure, 'reason'> }
  | { readonly unpruned: string; readonly failure: TraceFailure };

function walkChannels(request: WalkRequest, unitCount: number): WalkOutcome {
  const { index, facts, seed, channelCount } = request;
  const unitSize = channelCount / unitCount;
  const { seedAxis = (facts.get(seed)?.dims.length ?? 0) - 1 } = request;
  const labels = new Map<string, AxisLabel>();
  const touched = new Set<number>();
  const repeats: Repeat[] = [];
  let groupOfUnit: Int32Array | undefined;
  let sharesKeyValue = false;
  let mixesTokens = false;
  let isLinear = false;
  const kind = partKind({ ...request, value: seed });
  const queue: string[] = [];
  /** Value from which each label was propagated. */
  const labelledFrom = new Map<string, string>();

  const addLabel = ({ value, label }: Finding): void => {
    if (label.unitIds.every((code) => code === NO_UNIT)) return;
    if (request.cuts.has(value)) throw new TraceStop('the channels reach the residual stream');
    const known = labels.get(value);
    const merged = known === undefined ? label : mergeLabels(value, known, label);
    if (merged === known) return;
    labels.set(value, merged);
    queue.push(value);
  };

  addLabel({
    value: seed,
    label: {
      axis: seedAxis,
      unitIds: Int32Array.from({ length: channelCount }, (_, at) => Math.floor(at / unitSize)),
    },
  });
  for (let value = queue.shift(); value !== undefined; value = queue.shift()) {
    for (const at of isExternal(value, request) ? [] : neighbours(value, request)) {
      const node = index.nodes[at]!;
      touched.add(at);
      const operator = operatorOf(node);
      isLinear ||= operator?.tokens === 'recurrence';
      mixesTokens ||= isLinear || isAttention(operator);
      const where = { node: nodeLabel(node), opType: qualifiedOp(node), kind };
      try {
        const rule = axisRuleOf(node, operator);
        for (const { side, slot } of portsOf(node).filter((port) => port.value === value)) {
          const result = rule(makeSite(request, { node, side, slot, label: labels.get(value)! }));
          sharesKeyValue ||= result.sharesKeyValue ?? false;
          if (result.groupOfUnit !== undefined) groupOfUnit = agreedGroups(groupOfUnit, result.groupOfUnit);
          if (result.repeat !== undefined && !repeats.some((repeat) => repeat.value === result.repeat?.value)) {
            repeats.push(result.repeat);
          }
          for (const finding of result.findings) {
            if (repeats.some((repeat) => repeat.value === finding.value)) continue;
            if (side === 'input' && node.output.includes(finding.value) && !labels.has(finding.value))
              labelledFrom.set(finding.value, value);
            addLabel(finding);
          }
        }
      } catch (stop) {
        if (stop instanceof NeedCoarserUnits) return { coarser: stop.unitCount, at: where };
        if (!(stop instanceof TraceStop)) throw stop;
        const failure = { ...where, reason: stop.message };
        if (stop instanceof ReducedTogether) return { unpruned: sourceOf(value, labelledFrom), failure };
        return { failure };
      }
    }
  }
  const leak = [...labels.keys()].find((value) => leavesModule(value, request));
  if (leak !== undefined) {
    const reason = `channels of "${leak}" are read outside their block`;
    return { failure: { node: leak, opType: '', reason, kind } };
  }
  const shared = [...labels.keys()].find((value) => isShared(value, request));
  if (shared !== undefined && !mixesTokens) {
    const reason = `its channels are weighted by "${shared}", which each block gets from the token's own embedding`;
    return { failure: { node: shared, opType: '', reason, kind: 'per-layer input' } };
  }
  const sharedWeight = [...labels.keys()].find(
    (value) => !isExternal(value, request) && isSharedExpression(value, index, touched),
  );
  if (sharedWeight !== undefined) {
    const reason = `"${sharedWeight}" is computed from a weight and read by other parts of the model too`;
    return { failure: { node: sharedWeight, opType: '', reason, kind } };
  }
  const mixer = [...touched].find((at) => operatorOf(index.nodes[at]!)?.tokens === 'mixer');
  if (mixer !== undefined && !mixesTokens) {
    const reason = 'it mixes tokens and is not attention; only attention and FFNs are pruned';
    const node = index.nodes[mixer]!;
    return { failure: { node: nodeLabel(node), opType: qualifiedOp(node), reason, kind } };
  }
  return {
    trace: {
      unitCount,
      unitSize,
      labels,
      external: new Set([...labels.keys()].filter((value) => isExternal(value, request))),
      nodes: [...touched].sort((a, b) => a - b),
      ...(groupOfUnit && { groupOfUnit }),
      repeats,
      sharesKeyValue:
        groupOfUnit === undefined &&
        (sharesKeyValue || [...touched].some((at) => readsSharedOperand(at, labels, request))),
      keepsKeyValues: shared !== undefined,
      isAttention: mixesTokens,
      isLinear,
    },
  };
}

/**
 * Whether units can be removed although some values are not pruned: the linear layers that compute the channels still shrink,
 * heads still reach their attention, and no producer of an unpruned value shrinks.
 */
function canPruneAfter(
  { labels, nodes, isAttention: isHeads }: Pick<ChannelTrace, 'labels' | 'nodes' | 'isAttention'>,
  { unpruned, ...request }: WalkRequest,
): boolean {
  const { index, facts } = request;
  const maps = [...labels.keys()].filter(
    (value) => index.initializers.has(value) && facts.get(value)?.dims.length === 2,
  );
  const endsAt = (at: number) => isLinearNode(index, at);
  const hasHeads = (value: string) => partKind({ ...request, value, endsAt }) !== 'ffn';
  const values = [...unpruned.keys()];
  return (
    maps.length > 1 &&
    (isHeads || !values.some(hasHeads)) &&
    !values.some((value) => nodes.includes(index.producerOf.get(value) ?? -1))
  );
}

/** The value of the module that a reduced value is computed from. */
function sourceOf(value: string, labelledFrom: ReadonlyMap<string, string>): string {
  let source = value;
  for (let from = labelledFrom.get(source); from !== undefined; from = labelledFrom.get(source)) source = from;
  return source;
}

/** Whether a node that mixes tokens or copies heads also reads a token value without units. */
function readsSharedOperand(at: number, labels: ReadonlyMap<string, AxisLabel>, request: TraceRequest): boolean {
  const { index, stageOf, stage, dataValues } = request;
  const node = index.nodes[at]!;
  if (!isSharing(operatorOf(node)) || node.input.some((value) => index.constants.has(value) && labels.has(value)))
    return false;
  if (isPartOfHeads(node, labels, index)) return false;
  return node.input.some((value) => dataValues.has(value) && stageOf.get(value) === stage && !labels.has(value));
}

/** Whether a node's output is only joined to channels that each head has of its own, as the rotary part of DeepSeek's keys. */
function isPartOfHeads({ output }: NodeProto, labels: ReadonlyMap<string, AxisLabel>, index: GraphIndex): boolean {
  const [copies = ''] = output;
  const readers = (index.consumersOf.get(copies) ?? []).map((at) => index.nodes[at]!);
  const joins = ({ opType, input }: NodeProto) =>
    opType === 'Concat' && input.some((value) => value !== copies && labels.has(value));
  return readers.length > 0 && readers.every(joins);
}

/**
 * Whether a value comes from outside the module, so that labels end there: a weight, a cache, a value of another stage,
 * keys and values that other blocks read too, an unpruned value, or a mask or table. Other readers keep the dense value.
 */
function isExternal(value: string, request: WalkRequest): boolean {
  const { index, stageOf, stage, dataValues } = request;
  if (isShared(value, request) || request.unpruned.has(value)) return true;
  const producer = producerNode(index, value);
  if (producer === undefined) return true;
  if (index.constants.has(value)) return producer.opType === 'Constant' || isReadElsewhere(value, request);
  return stageOf.get(value) !== stage || (!dataValues.has(value) && isReadElsewhere(value, request));
}

/** Whether a value, or a view of it, is computed or read by other blocks; a view that only one block reads belongs to that block. */
const isShared = (value: string, request: TraceRequest): boolean =>
  request.shared.has(value) && (request.stageOf.get(value) !== request.stage || leadsElsewhere(value, request));

function leadsElsewhere(value: string, request: TraceRequest): boolean {
  const { index, shared } = request;
  const views = (index.consumersOf.get(value) ?? []).flatMap((at) => index.nodes[at]!.output);
  return isReadElsewhere(value, request) || views.some((view) => shared.has(view) && leadsElsewhere(view, request));
}

/** Whether another stage reads a value, through constant expressions too. A value's shape is not its contents. */
export function isReadElsewhere(value: string, request: Pick<TraceRequest, 'index' | 'stageOf' | 'stage'>): boolean {
  const { index, stageOf, stage } = request;
  return (index.consumersOf.get(value) ?? []).some((at) => {
    const { opType, output } = index.nodes[at]!;
    if (opType === 'Shape') return false;
    const [result = ''] = output;
    return index.constants.has(result) ? isReadElsewhere(result, request) : stageOf.get(result) !== stage;
  });
}

/** Nodes of the stage to which labels of a value are propagated. */
function neighbours(value: string, { index, stageOf, stage }: TraceRequest): readonly number[] {
  const producer = index.producerOf.get(value)!;
  const consumers = (index.consumersOf.get(value) ?? []).filter(
    (at) => stageOf.get(index.nodes[at]!.output[0] ?? '') === stage,
  );
  return index.constants.has(value) ? [producer] : [producer, ...consumers];
}

function leavesModule(value: string, request: WalkRequest): boolean {
  if (isExternal(value, request) || request.index.constants.has(value) || request.mayLeave?.has(value)) return false;
  return isReadElsewhere(value, request);
}

/** A transposed (cast, ...) weight that others read too cannot be narrowed only for one module. */
function isSharedExpression(value: string, index: GraphIndex, touched: ReadonlySet<number>): boolean {
  const producer = producerNode(index, value);
  if (producer === undefined || !index.constants.has(value)) return false;
  return (index.consumersOf.get(value) ?? []).some((at) => !touched.has(at));
}

/** Whether an operator may broadcast one key or value over all heads. */
const isSharing = (operator: Operator | undefined): boolean =>
  isAttention(operator) || operator?.tokens === 'product' || operator?.tokens === 'repeats';

function axisRuleOf(node: NodeProto, operator: Operator | undefined): AxisRule {
  const axis = operator?.axis ?? missing('the operator is not supported');
  if (typeof axis === 'function') return axis;
  throw new TraceStop(`channels cannot be followed through ${qualifiedOp(node)}: ${axis.missing}`);
}

function mergeLabels(value: string, known: AxisLabel, added: AxisLabel): AxisLabel {
  // A single head can be labelled on the axis of heads (size 1) or on that of its channels.
  if (known.axis !== added.axis && isOneUnit(known, added)) return known;
  if (known.axis !== added.axis || known.unitIds.length !== added.unitIds.length) {
    throw new TraceStop(`"${value}" carries channels on axes ${known.axis} and ${added.axis}`);
  }
  let changed = false;
  const unitIds = known.unitIds.map((code, at) => {
    const other = added.unitIds[at] ?? NO_UNIT;
    if (other === NO_UNIT || other === code) return code;
    if (code !== NO_UNIT) throw new TraceStop(`"${value}" mixes units at one position`);
    changed = true;
    return other;
  });
  return changed ? { axis: known.axis, unitIds } : known;
}

const isOneUnit = (...labels: readonly AxisLabel[]): boolean =>
  new Set(labels.flatMap(({ unitIds }) => [...unitIds])).size === 1;

function agreedGroups(known: Int32Array | undefined, found: Int32Array): Int32Array {
  if (known?.some((group, unit) => group !== found[unit]))
    throw new TraceStop('heads belong to different KV groups at once');
  return found;
}

function makeSite({ index, facts }: TraceRequest, port: Pick<RuleSite, 'node' | 'side' | 'slot' | 'label'>): RuleSite {
  const fact = (value: string) => {
    const found = facts.get(value);
    if (found === undefined) throw new TraceStop(`the dims of "${value}" are not known`);
    return found;
  };
  return {
    ...port,
    dims: (value) => fact(value).dims,
    ints: (value) => {
      const { ints } = fact(value);
      if (ints === undefined) throw new TraceStop(`the contents of "${value}" are not known`);
      return ints;
    },
    isConstant: (value) => index.constants.has(value),
    producerOf: (value) => producerNode(index, value),
  };
}
