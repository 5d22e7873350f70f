import type { GraphIndex } from '../onnx/graph-index.js';
import type { Partition } from '../onnx/partition.js';
import type { PrunableModule } from './layout.js';
import { type ChannelTrace, isReadElsewhere, type TraceOutcome } from './trace-channels.js';

/** Keys and values of one attention that attentions of later blocks also read (Gemma 3n and 4). */
export interface SharedKeyValues {
  /** Indices of the modules that read them; the first one computes them. */
  readonly members: readonly number[];
  /** Trace from the inputs of the first module to these keys and values, without the nodes of the module's own trace. */
  readonly trace: ChannelTrace;
  /** Keys, values and views of them that blocks read. */
  readonly values: readonly string[];
}

export interface SharedKeyValuesRequest {
  readonly index: GraphIndex;
  readonly partition: Pick<Partition, 'stageOf'>;
  readonly modules: readonly PrunableModule[];
  /** Trace of each module, by its index, which ends at the keys and values. */
  readonly traces: readonly ChannelTrace[];
  /** Values of the tokens that several blocks read besides the hidden state. */
  readonly shared: ReadonlySet<string>;
  /** Traces a module through its shared keys and values to their producer. */
  traceShared(module: PrunableModule): TraceOutcome;
}

/**
 * Finds the keys and values that can be pruned for all readers together: every reader has the same unit or KV group at
 * each position, and nothing else reads them.
 */
export function findSharedKeyValues(request: SharedKeyValuesRequest): SharedKeyValues[] {
  const { modules, traces, partition } = request;
  const sharing = modules.filter(({ attentionType }) => attentionType === 'shared');
  return sharing.flatMap((producer) => {
    const computed = [...traces[producer.index]!.external].filter(
      (value) => request.shared.has(value) && partition.stageOf.get(value) === producer.segment,
    );
    return computed.length === 0 ? [] : (joinReaders(request, producer, sharing) ?? []);
  });
}

function joinReaders(
  request: SharedKeyValuesRequest,
  producer: PrunableModule,
  sharing: readonly PrunableModule[],
): SharedKeyValues | undefined {
  const { index, partition, traces, shared } = request;
  const outcome = request.traceShared(producer);
  if ('failure' in outcome || outcome.trace.unitCount !== producer.unitCount) return undefined;
  const { trace: whole } = outcome;
  const own = traces[producer.index]!;
  const trace = traceBeyond(whole, own, request);
  if (trace === undefined) return undefined;
  const stage = { index, stageOf: partition.stageOf, stage: producer.segment };
  const isSharedActivation = (value: string) => shared.has(value) && !index.constants.has(value);
  const values = [...trace.labels.keys()].filter((value) => isSharedActivation(value) && isReadElsewhere(value, stage));
  const readers = sharing.filter(
    (module) => module !== producer && values.some((value) => traces[module.index]!.labels.has(value)),
  );
  const hasSameLabel = (module: PrunableModule, value: string): boolean => {
    const [label, known] = [traces[module.index]!.labels.get(value), trace.labels.get(value)];
    return label?.axis === known?.axis && label?.unitIds.join() === known?.unitIds.join();
  };
  const isReader = (at: number, value: string): boolean =>
    partition.stageOf.get(index.nodes[at]!.output[0] ?? '') === producer.segment ||
    readers.some((module) => traces[module.index]!.nodes.includes(at) && hasSameLabel(module, value));
  const isKnown = (value: string): boolean =>
    (index.consumersOf.get(value) ?? []).every((at) => index.nodes[at]!.opType === 'Shape' || isReader(at, value));
  const readsOthers = (module: PrunableModule): boolean =>
    [...traces[module.index]!.external].some((value) => isSharedActivation(value) && !trace.labels.has(value));
  if (readers.length === 0 || !values.every(isKnown) || readers.some(readsOthers)) return undefined;
  const members = [producer, ...readers];
  if (members.some((module) => !hasGroupsOf(traces[module.index]!, whole, values))) return undefined;
  const read = members.flatMap(({ index: at }) =>
    [...traces[at]!.external].filter((value) => isSharedActivation(value)),
  );
  return { members: members.map((module) => module.index), trace, values: [...new Set([...values, ...read])] };
}

/** Whether the groups of a reader are those of the module that computes the keys and values, or follow from its units. */
function hasGroupsOf(reader: ChannelTrace, whole: ChannelTrace, values: readonly string[]): boolean {
  const groupsOf = ({ groupOfUnit }: ChannelTrace) => (groupOfUnit === undefined ? 0 : Math.max(...groupOfUnit) + 1);
  if (reader.groupOfUnit !== undefined) return groupsOf(reader) === groupsOf(whole);
  return (
    reader.unitCount === whole.unitCount &&
    values.every((value) => (reader.labels.get(value)?.unitIds ?? []).every((code) => code >= -1))
  );
}

/**
 * The part of a trace beyond the module's own one, which ends at the keys and values; undefined if both share a weight or node,
 * such as one product that computes queries, keys and values.
 */
function traceBeyond(
  whole: ChannelTrace,
  own: ChannelTrace,
  { index, shared }: SharedKeyValuesRequest,
): ChannelTrace | undefined {
  const ends = (value: string) => own.external.has(value) && shared.has(value) && !index.constants.has(value);
  const labels = new Map([...whole.labels].filter(([value]) => !own.labels.has(value) || ends(value)));
  const isSame = [...own.labels].every(
    ([value, label]) => whole.labels.get(value)?.unitIds.join() === label.unitIds.join(),
  );
  const ownNodes = new Set(own.nodes);
  const areConnected = own.nodes.some((at) => {
    const { input, output } = index.nodes[at]!;
    return [...input, ...output].some((value) => labels.has(value) && !ends(value));
  });
  if (!isSame || areConnected) return undefined;
  return {
    ...whole,
    labels,
    external: new Set([...whole.external].filter((value) => labels.has(value))),
    nodes: whole.nodes.filter((at) => !ownNodes.has(at)),
    repeats: whole.repeats.filter(({ value }) => !own.repeats.some((repeat) => repeat.value === value)),
  };
}
