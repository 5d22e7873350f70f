import type { NodeProto } from 'onnx-buf';
import { type GraphIndex, nodeLabel, qualifiedOp } from '../graph/graph-index.js';
import type { ValueFacts } from '../graph/value-facts.js';
import {
  type AxisLabel,
  type AxisRule,
  type Finding,
  FREE,
  NeedCoarserUnits,
  portsOf,
  ReducedTogether,
  type Repeat,
  type RuleSite,
  TraceStop,
} from '../operators/axis-rule.js';
import type { SecondMap } from '../operators/experts.js';
import { isAttention, missing, type Operator } from '../operators/operator.js';
import { operatorOf } from '../operators/table.js';
import { isLinearNode } from './find-output-linears.js';
import type { Unrecognised } from './layout.js';
import { partKind } from './part-kind.js';

/** Everything that a set of units touches: follow the channels of one linear map's input to where they are made. */
export interface ChannelTrace {
  readonly unitCount: number;
  /** Channels of the linear map's input per unit. */
  readonly unitSize: number;
  /** Heads of a unit: more than one where the graph keeps a KV head together with its query heads. */
  readonly headsPerUnit: number;
  /** Every value that carries units: activations, weights, biases, caches. */
  readonly labels: ReadonlyMap<string, AxisLabel>;
  /** Those of them that the module is handed: weights, caches, masks and tables that others may read too. */
  readonly handed: ReadonlySet<string>;
  /** Nodes with a labelled port, ascending. */
  readonly nodes: readonly number[];
  /** KV group of each unit, for grouped queries. */
  readonly groupOfUnit?: Int32Array;
  readonly repeats: readonly Repeat[];
  /** Whether all heads attend to one key and value (multi-query attention). */
  readonly sharesKeyValue: boolean;
  /** Whether other blocks read its keys and values too, or made them, so that these remain whole. */
  readonly keepsKeyValues: boolean;
  /** Whether the units meet an operator that mixes tokens. */
  readonly isAttention: boolean;
  /** Whether that is linear attention, whose heads carry a state in place of keys and values. */
  readonly isLinear: boolean;
  /** By expert, where each is computed for every token by nodes of its own, and their sum is the mixture's result. */
  readonly branches?: readonly ExpertBranch[];
  /** Of experts whose neurons can leave. */
  readonly neurons?: NeuronTrace;
}

/** The neurons inside the experts of a mixture: weights are stacks, in which they lie at the same places for every expert. */
export interface NeuronTrace extends Pick<ChannelTrace, 'unitCount' | 'labels' | 'handed' | 'nodes'> {
  readonly second: SecondMap;
  /** `[tokens k, neurons]`, what they make for the chosen experts; absent where one operator holds the mixture. */
  readonly made?: string;
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
  /** Those of them that several blocks read besides the hidden state: per-layer inputs, shared keys and values. */
  readonly shared: ReadonlySet<string>;
  /** Values that other stages may read although they carry channels. Default: none. */
  readonly mayLeak?: ReadonlySet<string>;
  /** Input of the linear map, channels on its last axis. */
  readonly seed: string;
  /** Default: the last. */
  readonly seedAxis?: number;
  readonly channelCount: number;
}

/** Walks allowed before giving up: channels, then heads, then groups of heads; once more for each value that remains whole. */
const MAX_WALKS = 12;

interface WalkRequest extends TraceRequest {
  /** Values of the module that keep all their channels, since a number is computed from all of them together. */
  readonly whole: ReadonlyMap<string, TraceFailure>;
}

/**
 * Finds the units behind the input channels of a linear map, starting with one unit a channel and merging runs of
 * channels where the graph treats them as one (a head). What stops the trace comes back as data with its node.
 */
export function traceChannels(request: TraceRequest): TraceOutcome {
  let unitCount = request.channelCount;
  let headCount: number | undefined;
  const whole = new Map<string, TraceFailure>();
  for (let round = 0; round < MAX_WALKS; round += 1) {
    const outcome = walkChannels({ ...request, whole }, unitCount);
    if ('failure' in outcome && !('whole' in outcome)) return outcome;
    if ('whole' in outcome) {
      whole.set(outcome.whole, outcome.failure);
      continue;
    }
    const [failure] = whole.values();
    if ('trace' in outcome && failure !== undefined && !isCutBehind(outcome.trace, { ...request, whole }))
      return { failure };
    if ('trace' in outcome) return { trace: { ...outcome.trace, headsPerUnit: (headCount ?? unitCount) / unitCount } };
    if (outcome.coarser >= unitCount || request.channelCount % outcome.coarser !== 0) {
      const reason = `${request.channelCount} channels cannot be divided into ${outcome.coarser} equal units`;
      return { failure: { ...outcome.at, reason } };
    }
    unitCount = outcome.coarser;
    headCount ??= unitCount;
    whole.clear();
  }
  const reason = `the channels cannot be divided into units (last tried: ${unitCount})`;
  return { failure: { node: request.seed, opType: '', reason, kind: 'ffn' } };
}

type WalkOutcome =
  | { readonly trace: Omit<ChannelTrace, 'headsPerUnit'> }
  | { readonly failure: TraceFailure }
  | { readonly coarser: number; readonly at: Omit<TraceFailure, 'reason'> }
  | { readonly whole: string; readonly failure: TraceFailure };

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
  /** The value that a label came from. */
  const labelledFrom = new Map<string, string>();

  const addLabel = ({ value, label }: Finding): void => {
    if (label.codes.every((code) => code === FREE)) return;
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
      codes: Int32Array.from({ length: channelCount }, (_, at) => Math.floor(at / unitSize)),
    },
  });
  for (let value = queue.shift(); value !== undefined; value = queue.shift()) {
    for (const at of isHanded(value, request) ? [] : neighbours(value, request)) {
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
        if (stop instanceof ReducedTogether) return { whole: sourceOf(value, labelledFrom), failure };
        return { failure };
      }
    }
  }
  const leak = [...labels.keys()].find((value) => leaksOut(value, request));
  if (leak !== undefined) {
    const reason = `channels of "${leak}" are read outside their block`;
    return { failure: { node: leak, opType: '', reason, kind } };
  }
  const given = [...labels.keys()].find((value) => isShared(value, request));
  if (given !== undefined && !mixesTokens) {
    const reason = `its channels are weighted by "${given}", which each block gets from the token's own embedding`;
    return { failure: { node: given, opType: '', reason, kind: 'per-layer input' } };
  }
  const shared = [...labels.keys()].find(
    (value) => !isHanded(value, request) && isSharedExpression(value, index, touched),
  );
  if (shared !== undefined) {
    const reason = `"${shared}" is computed from a weight and read by other parts of the model too`;
    return { failure: { node: shared, opType: '', reason, kind } };
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
      handed: new Set([...labels.keys()].filter((value) => isHanded(value, request))),
      nodes: [...touched].sort((a, b) => a - b),
      ...(groupOfUnit && { groupOfUnit }),
      repeats,
      sharesKeyValue:
        groupOfUnit === undefined &&
        (sharesKeyValue || [...touched].some((at) => readsSharedOperand(at, labels, request))),
      keepsKeyValues: given !== undefined,
      isAttention: mixesTokens,
      isLinear,
    },
  };
}

/**
 * Whether units can be picked behind what remains whole: linear maps that make the channels become smaller too, not only the one that
 * reads them, heads still meet their attention, and nothing that makes an entire value becomes smaller.
 */
function isCutBehind(
  { labels, nodes, isAttention: isHeads }: Pick<ChannelTrace, 'labels' | 'nodes' | 'isAttention'>,
  { whole, ...request }: WalkRequest,
): boolean {
  const { index, facts } = request;
  const maps = [...labels.keys()].filter(
    (value) => index.initializers.has(value) && facts.get(value)?.dims.length === 2,
  );
  const endsAt = (at: number) => isLinearNode(index, at);
  const holdsHeads = (value: string) => partKind({ ...request, value, endsAt }) !== 'ffn';
  const values = [...whole.keys()];
  return (
    maps.length > 1 &&
    (isHeads || !values.some(holdsHeads)) &&
    !values.some((value) => nodes.includes(index.producerOf.get(value) ?? -1))
  );
}

/** The value of the module that a reduced value is computed from. */
function sourceOf(value: string, labelledFrom: ReadonlyMap<string, string>): string {
  let source = value;
  for (let from = labelledFrom.get(source); from !== undefined; from = labelledFrom.get(source)) source = from;
  return source;
}

/** Whether a node of the module that mixes tokens, or copies heads, also reads something made of tokens that has no units. */
function readsSharedOperand(at: number, labels: ReadonlyMap<string, AxisLabel>, request: TraceRequest): boolean {
  const { index, stageOf, stage, dataValues } = request;
  const node = index.nodes[at]!;
  if (!isSharing(operatorOf(node)) || node.input.some((value) => index.constants.has(value) && labels.has(value)))
    return false;
  return node.input.some((value) => dataValues.has(value) && stageOf.get(value) === stage && !labels.has(value));
}

/**
 * Whether a value comes from outside the module, so that labels end there: a weight, a cache, a value of another stage,
 * keys and values that other blocks read too, what keeps all its channels, or a mask or table. Other readers get it unchanged.
 */
function isHanded(value: string, request: WalkRequest): boolean {
  const { index, stageOf, stage, dataValues } = request;
  if (isShared(value, request) || request.whole.has(value)) return true;
  const producer = index.nodes[index.producerOf.get(value) ?? -1];
  if (producer === undefined) return true;
  if (index.constants.has(value)) return producer.opType === 'Constant' || isReadElsewhere(value, request);
  return stageOf.get(value) !== stage || (!dataValues.has(value) && isReadElsewhere(value, request));
}

/** Whether other blocks read a value or a view of it too, or made it; views of it that one block alone reads are its own. */
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

/** Nodes of the stage that labels of a value travel to. */
function neighbours(value: string, { index, stageOf, stage }: TraceRequest): readonly number[] {
  const producer = index.producerOf.get(value)!;
  const consumers = (index.consumersOf.get(value) ?? []).filter(
    (at) => stageOf.get(index.nodes[at]!.output[0] ?? '') === stage,
  );
  return index.constants.has(value) ? [producer] : [producer, ...consumers];
}

function leaksOut(value: string, request: WalkRequest): boolean {
  if (isHanded(value, request) || request.index.constants.has(value) || request.mayLeak?.has(value)) return false;
  return isReadElsewhere(value, request);
}

/** A transposed (cast, ...) weight that others read too cannot be narrowed only for one module. */
function isSharedExpression(value: string, index: GraphIndex, touched: ReadonlySet<number>): boolean {
  const producer = index.nodes[index.producerOf.get(value) ?? -1];
  if (producer === undefined || !index.constants.has(value)) return false;
  return (index.consumersOf.get(value) ?? []).some((at) => !touched.has(at));
}

/** Whether an operator may spread one key or value over all heads. */
const isSharing = (operator: Operator | undefined): boolean =>
  isAttention(operator) || operator?.tokens === 'product' || operator?.tokens === 'repeats';

function axisRuleOf(node: NodeProto, operator: Operator | undefined): AxisRule {
  const axis = operator?.axis ?? missing('the operator is not supported');
  if (typeof axis === 'function') return axis;
  throw new TraceStop(`channels cannot be followed through ${qualifiedOp(node)}: ${axis.missing}`);
}

function mergeLabels(value: string, known: AxisLabel, added: AxisLabel): AxisLabel {
  // One head lies as well on the axis of heads, of size 1, as on that of its channels.
  if (known.axis !== added.axis && isOneUnit(known, added)) return known;
  if (known.axis !== added.axis || known.codes.length !== added.codes.length) {
    throw new TraceStop(`"${value}" carries channels on axes ${known.axis} and ${added.axis}`);
  }
  let changed = false;
  const codes = known.codes.map((code, at) => {
    const other = added.codes[at] ?? FREE;
    if (other === FREE || other === code) return code;
    if (code !== FREE) throw new TraceStop(`"${value}" mixes units at one position`);
    changed = true;
    return other;
  });
  return changed ? { axis: known.axis, codes } : known;
}

const isOneUnit = (...labels: readonly AxisLabel[]): boolean =>
  new Set(labels.flatMap(({ codes }) => [...codes])).size === 1;

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
    producerOf: (value) => index.nodes[index.producerOf.get(value) ?? -1],
  };
}
