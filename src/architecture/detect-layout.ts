import { UnsupportedModelError } from '../errors.js';
import { isFloatType } from '../onnx/float-encoding.js';
import { type GraphIndex, inputsOf, nodeLabel, producerNode, qualifiedOp } from '../onnx/graph-index.js';
import { isViewOf } from '../onnx/is-view.js';
import { findEmbeddings, influencedValues, outputsOf, type Partition, partitionGraph } from '../onnx/partition.js';
import { elementCount } from '../onnx/value.js';
import type { ValueFacts } from '../onnx/value-facts.js';
import { groupOf, NO_UNIT } from '../operators/axis-rule.js';
import { countPackedParameters } from '../operators/experts.js';
import type { ExpertSite } from './expert-site.js';
import { findCutValues } from './find-cut-values.js';
import { findExperts } from './find-experts.js';
import { findOutputLinears, isLinearNode, type LinearSite, type SearchStop } from './find-output-linears.js';
import { findSharedKeyValues, type SharedKeyValues } from './find-shared-key-values.js';
import { isNormalized } from './is-normalized.js';
import type { AttentionType, ModelLayout, OutputLinear, PrunableModule, Unrecognised } from './layout.js';
import { type ChannelTrace, type TraceOutcome, type TraceRequest, traceChannels } from './trace-channels.js';

/** The layout, and the graph analysis that later stages need to run and prune the model. */
export interface DetectedModel {
  readonly layout: ModelLayout;
  readonly index: GraphIndex;
  readonly partition: Partition;
  /** Trace of each module of the layout, by its index; it ends at keys and values that several blocks read. */
  readonly traces: readonly ChannelTrace[];
  /** Shared keys and values that can be pruned. */
  readonly sharedKeyValues: readonly SharedKeyValues[];
}

export interface DetectRequest {
  /** The graph with fused sums and norms split (see `splitSums`). */
  readonly index: GraphIndex;
  readonly facts: ValueFacts;
  readonly tokenInput: string;
  readonly logits: string;
  /** Whether a weight belongs to the model (not to an embedding prefix); others are not counted. */
  isOwn?(weight: string): boolean;
}

/**
 * Recognises a decoder by its topology. The residual stream is found at values that separate the graph in two. A module
 * ends in a linear layer that writes to the stream, and its units are found by tracing that layer's input channels.
 *
 * @throws UnsupportedModelError when the graph has no residual stream to cut at.
 */
export function detectLayout(request: DetectRequest): DetectedModel {
  const { index, facts, logits } = request;
  const embeddings = findEmbeddings(index, request.tokenInput);
  const { cuts, stream, shared } = chooseCuts(request, embeddings);
  const partition = partitionGraph(index, cuts);
  const dataValues = influencedValues(index.nodes, outputsOf(index, embeddings));
  const found = cuts.slice(1).flatMap((output, at) => {
    const stage = at + 1;
    const search = { index, partition, facts, dataValues, stage, output };
    const mixtures = findExperts(search);
    const { linears, stops } = findOutputLinears(search, mixtures);
    const inner = linears.filter(({ input }) => !isStreamView(input, { index, stream }));
    const sites = inner.map((linear) => ({
      linear,
      outcome: trace(request, { partition, dataValues, shared, stage, linear }),
    }));
    const experts = mixtures.sites.map((site) => ({ linear: site.linear, outcome: site, experts: site }));
    return [
      ...[...stops, ...mixtures.stops].map((stop) => ({ stage, stop })),
      ...refuseOverlaps([...sites, ...experts], index).map((site) => ({ stage, ...site })),
    ];
  });
  const blocks = numberBlocks(found.map((item) => ({ stage: item.stage, mixes: mixesTokens(item) })));
  const modules: PrunableModule[] = [];
  const traces: ChannelTrace[] = [];
  const unrecognised: Unrecognised[] = [];
  found.forEach((item, at) => {
    const block = blocks[at] ?? 0;
    if (!('outcome' in item)) {
      unrecognised.push({
        block,
        ...item.stop,
        nearest: 'a linear layer that writes to the residual stream',
      });
    } else if ('failure' in item.outcome) {
      const { failure } = item.outcome;
      unrecognised.push({ block, ...failure, nearest: `${failure.kind} ending in ${item.linear.node}` });
    } else {
      const { trace: units } = item.outcome;
      modules.push(
        describeModule({ index: modules.length, block, segment: item.stage, ...item, trace: units }, facts, index),
      );
      traces.push(units);
    }
  });
  const sharedKeyValues = findSharedKeyValues({
    index,
    partition,
    modules,
    traces,
    shared,
    traceShared: ({ segment, output: linear }) =>
      trace(request, { partition, dataValues, shared: new Set(), mayLeave: shared, stage: segment, linear }),
  });
  for (const found of sharedKeyValues)
    for (const module of joinModules(found, { modules, facts, index })) modules[module.index] = module;
  const logitDims = facts.get(logits)?.dims ?? [];
  return {
    index,
    partition,
    traces,
    sharedKeyValues,
    layout: {
      hiddenSize: modules[0]?.output.outputCount ?? facts.get(cuts[0] ?? '')?.dims.at(-1) ?? 0,
      vocabularySize: logitDims[logitDims.length - 1] ?? 0,
      blockCount: blocks.length === 0 ? 0 : Math.max(...blocks) + 1,
      segments: cuts.slice(1).map((output, at) => ({
        index: at + 1,
        input: cuts[at] ?? '',
        output,
        modules: modules.filter(({ segment }) => segment === at + 1).map((module) => module.index),
      })),
      modules,
      unrecognised,
      parameterCount: countParameters(request),
      perLayerTables: findPerLayerTables(index, embeddings, cuts[0] ?? ''),
      logits,
    },
  };
}

interface Stream {
  /** Chosen cuts: the last value before the first linear layer, then one after each part with linear layers. */
  readonly cuts: readonly string[];
  /** All values that the entire residual stream passes through, cuts and their norms. */
  readonly stream: ReadonlySet<string>;
  /** Token values that several blocks read in addition to the stream. */
  readonly shared: ReadonlySet<string>;
}

function chooseCuts({ index, facts, tokenInput, logits }: DetectRequest, embeddings: readonly number[]): Stream {
  if (embeddings.length === 0) {
    throw new UnsupportedModelError(
      `no Gather looks up "${tokenInput}" in an embedding table; decoder-only transformers can be pruned`,
    );
  }
  const width = (value: string) => facts.get(value)?.dims.at(-1);
  const found = findCutValues(index, embeddings, logits);
  const all = found.cuts.filter((value) => width(value) !== width(logits));
  const { stages } = partitionGraph(index, all);
  const stream = new Set(all);
  // A linear layer from the stream to the stream changes its width (projected embeddings); it belongs to no block.
  const hasLinear = stages.map((nodes) =>
    nodes.some((at) => isLinearNode(index, at) && !isStreamView(index.nodes[at]!.input[0] ?? '', { index, stream })),
  );
  const cuts: string[] = [];
  all.forEach((value, at) => {
    if (hasLinear[at]) cuts.push(value);
    else if (!hasLinear.slice(0, at + 1).includes(true)) cuts[0] = value;
  });
  if (cuts.length < 2) {
    throw new UnsupportedModelError(
      `the graph has no residual stream to cut at: only ${all.length} values separate "${tokenInput}" from "${logits}"; ` +
        'decoder-only transformers exported as one graph without control flow can be pruned',
    );
  }
  return { cuts, stream, shared: found.shared };
}

/** Whether a value is on the stream or a view of it, such as one of several streams (AltUp of Gemma 3n). */
function isStreamView(
  value: string,
  graph: { readonly index: GraphIndex; readonly stream: ReadonlySet<string> },
): boolean {
  if (graph.stream.has(value)) return true;
  const producer = producerNode(graph.index, value);
  return producer !== undefined && isViewOf(producer, graph.index) && isStreamView(producer.input[0] ?? '', graph);
}

interface TraceSite extends Pick<TraceRequest, 'dataValues' | 'shared' | 'mayLeave' | 'stage'> {
  readonly partition: Partition;
  readonly linear: OutputLinear;
}

function trace({ index, facts }: DetectRequest, { partition, linear, ...site }: TraceSite): TraceOutcome {
  return traceChannels({
    index,
    facts,
    stageOf: partition.stageOf,
    ...site,
    cuts: new Set(partition.cuts),
    seed: linear.input,
    channelCount: linear.inputCount,
  });
}

interface TracedSite {
  readonly linear: LinearSite;
  readonly outcome: TraceOutcome;
  /** Only of a fused mixture. */
  readonly experts?: ExpertSite;
}

/**
 * A node shared by two modules (one product for queries and neurons) can be pruned for only one of them, or for neither
 * where both use the same channels (keys and values that the next block reads too).
 */
function refuseOverlaps(sites: readonly TracedSite[], index: GraphIndex): TracedSite[] {
  const claimed = new Set<number>();
  return sites.map((site) => {
    if (!('trace' in site.outcome)) return site;
    const { nodes, isAttention } = site.outcome.trace;
    const isCommon = (at: number) => sites.some((other) => other !== site && sharesChannels(at, [site, other], index));
    const shared = nodes.find((at) => claimed.has(at) || isCommon(at));
    for (const at of nodes) claimed.add(at);
    if (shared === undefined) return site;
    const node = index.nodes[shared]!;
    const reason = 'it also computes values for another module of the block';
    const kind = site.experts ? 'experts' : isAttention ? 'attention' : 'ffn';
    return { ...site, outcome: { failure: { node: nodeLabel(node), opType: qualifiedOp(node), reason, kind } } };
  });
}

/** Whether two modules have units at the same positions of a node's output. */
function sharesChannels(at: number, sites: readonly TracedSite[], index: GraphIndex): boolean {
  const traces = sites.flatMap(({ outcome }) =>
    'trace' in outcome && outcome.trace.nodes.includes(at) ? [outcome.trace] : [],
  );
  if (traces.length < sites.length) return false;
  return index.nodes[at]!.output.some((value) => {
    const [first, ...others] = traces.map(({ labels }) => labels.get(value)?.unitIds);
    return first?.some(
      (code, position) => code !== NO_UNIT && others.every((codes) => (codes?.[position] ?? NO_UNIT) !== NO_UNIT),
    );
  });
}

function mixesTokens(item: { readonly stop: SearchStop } | TracedSite): boolean {
  const isMixing = (kind: Unrecognised['kind']) => kind === 'attention' || kind === 'mixer';
  if ('stop' in item) return isMixing(item.stop.kind);
  return 'trace' in item.outcome ? item.outcome.trace.isAttention : isMixing(item.outcome.failure.kind);
}

/** A block begins at each token mixer (attention or another); in a model without mixers every FFN is a block. */
function numberBlocks(sites: readonly { readonly stage: number; readonly mixes: boolean }[]): number[] {
  const mixing = new Set(sites.filter(({ mixes }) => mixes).map(({ stage }) => stage));
  let block = -1;
  let openedBy = -1;
  let lastStage = -1;
  return sites.map(({ stage }) => {
    if (stage !== lastStage && (mixing.has(stage) || !mixing.has(openedBy))) {
      block += 1;
      openedBy = stage;
    }
    lastStage = stage;
    return block;
  });
}

interface ModuleSite extends Pick<TracedSite, 'linear' | 'experts'> {
  readonly index: number;
  readonly block: number;
  readonly segment: number;
  readonly trace: ChannelTrace;
}

function describeModule(site: ModuleSite, facts: ValueFacts, index: GraphIndex): PrunableModule {
  const { linear, trace: units, experts } = site;
  const groupOfUnit = units.groupOfUnit ?? groupsOfExperts(experts);
  const groupCount = groupOfUnit && Math.max(...groupOfUnit) + 1;
  const counts = experts
    ? {
        parametersPerUnit: experts.parametersPerExpert,
        parametersPerGroup: 0,
        parameterCount: experts.parametersPerExpert * units.unitCount,
      }
    : countModuleParameters(units, facts, index);
  return {
    index: site.index,
    kind: experts ? 'experts' : units.isAttention ? 'attention' : 'ffn',
    ...(units.isAttention && { attentionType: attentionTypeOf(units) }),
    block: site.block,
    segment: site.segment,
    output: linear,
    input: experts?.input ?? findModuleInput(units, index) ?? linear.input,
    unitCount: units.unitCount,
    unitOfChannel: Int32Array.from({ length: linear.inputCount }, (_, at) => Math.floor(at / units.unitSize)),
    unitSize: units.unitSize,
    ...(units.isAttention && units.headsPerUnit > 1 && { headsPerUnit: units.headsPerUnit }),
    ...(groupOfUnit && groupCount && { groupOfUnit, groupCount }),
    ...(units.isAttention &&
      !units.keepsKeyValues && { kvHeadCount: groupCount ?? (units.sharesKeyValue ? 1 : units.unitCount) }),
    ...(experts && { expertsPerToken: experts.expertsPerToken, leastExperts: experts.leastExperts }),
    ...(experts?.unfused && { unfusedExperts: experts.unfused }),
    ...(experts &&
      ('reason' in experts.neurons ? { neuronsObstacle: experts.neurons.reason } : { neurons: experts.neurons })),
    ...(isNormalized(index, linear.result) && { isNormalized: true }),
    ...counts,
    description: experts ? describeExperts(experts) : describeUnits(units, facts, index),
  };
}

interface JoinedModules {
  readonly modules: readonly PrunableModule[];
  readonly facts: ValueFacts;
  readonly index: GraphIndex;
}

/** Joins modules that share keys and values: a KV head is removed from all of them together, and the first one counts its parameters. */
function joinModules({ members, trace: units }: SharedKeyValues, { modules, facts, index }: JoinedModules) {
  const { groupOfUnit } = units;
  const groupCount = groupOfUnit && Math.max(...groupOfUnit) + 1;
  const counts = countModuleParameters(units, facts, index);
  return members.map((at, place): PrunableModule => {
    const module = modules[at]!;
    const source = members[0]!;
    return {
      ...module,
      attentionType: 'full',
      keyValueSource: source,
      ...(groupOfUnit && { groupOfUnit: module.groupOfUnit ?? groupOfUnit, groupCount: groupCount! }),
      kvHeadCount: groupCount ?? module.unitCount,
      ...(place === 0 && {
        parametersPerUnit: module.parametersPerUnit + counts.parametersPerUnit,
        parametersPerGroup: module.parametersPerGroup + counts.parametersPerGroup,
        parameterCount: module.parameterCount + counts.parameterCount,
      }),
      description:
        `${groupOfUnit ? 'grouped-query' : 'multi-head'} attention, ` +
        (place === 0 ? 'keys and values read later too' : `keys and values of block ${modules[source]!.block}`),
    };
  });
}

/** Groups of equally many consecutive experts. */
function groupsOfExperts(experts: ExpertSite | undefined): Int32Array | undefined {
  if (experts?.groupCount === undefined) return undefined;
  const { inputCount } = experts.linear;
  const size = inputCount / experts.groupCount;
  return Int32Array.from({ length: inputCount }, (_, expert) => Math.floor(expert / size));
}

function attentionTypeOf({ isLinear, keepsKeyValues }: ChannelTrace): AttentionType {
  if (isLinear) return 'linear';
  return keepsKeyValues ? 'shared' : 'full';
}

function describeUnits(units: ChannelTrace, facts: ValueFacts, index: GraphIndex): string {
  if (units.isLinear) return 'linear attention';
  if (units.isAttention) {
    if (units.keepsKeyValues) return 'attention with shared keys and values';
    if (units.sharesKeyValue) return 'multi-query attention';
    return units.groupOfUnit === undefined && units.headsPerUnit === 1
      ? 'multi-head attention'
      : 'grouped-query attention';
  }
  const matrices = [...units.labels].filter(
    ([value]) => index.initializers.has(value) && facts.get(value)?.dims.length === 2,
  );
  const positionsPerUnit = matrices.reduce(
    (sum, [, { unitIds }]) => sum + unitIds.filter((code) => code === 0).length,
    0,
  );
  // A gate whose channels are reduced together (activation sparsity of Gemma 3n) is passed to the module unpruned.
  const hasUncutGate = [...units.external].some((value) => !index.constants.has(value));
  if (hasUncutGate) return 'gated ffn, whole gate';
  return positionsPerUnit > 2 ? 'gated ffn' : 'plain ffn';
}

/** Input of the module's first linear layer: the first product whose input carries no units. */
function findModuleInput(units: ChannelTrace, index: GraphIndex): string | undefined {
  const first = units.nodes
    .map((at) => index.nodes[at]!)
    .find(
      ({ input, output }) =>
        units.labels.has(output[0] ?? '') &&
        index.constants.has(input[1] ?? '') &&
        !units.labels.has(input[0] ?? '') &&
        units.labels.has(input[1] ?? ''),
    );
  return first?.input[0];
}

/** Parameters that carry units: per unit, per KV group, and in total. */
function countModuleParameters(units: ChannelTrace, facts: ValueFacts, index: GraphIndex) {
  let [perUnit, perGroup, total] = [0, 0, 0];
  for (const [value, { axis, unitIds }] of units.labels) {
    if (!index.initializers.has(value)) continue;
    const dims = facts.get(value)?.dims ?? [];
    const size = dims.reduce((product, dim) => product * dim, 1);
    const perPosition = size / (dims[axis] ?? 1);
    total += size;
    perUnit += perPosition * unitIds.filter((code) => code === 0).length;
    perGroup += perPosition * unitIds.filter((code) => groupOf(code) === 0).length;
  }
  return { parametersPerUnit: perUnit, parametersPerGroup: perGroup, parameterCount: total };
}

const describeExperts = ({ linear, expertsPerToken }: ExpertSite): string =>
  `mixture of experts, ${expertsPerToken} of ${linear.inputCount} a token`;

/** Embedding weights that do not contribute to the first hidden state. */
function findPerLayerTables(index: GraphIndex, embeddings: readonly number[], first: string): string[] {
  const others = embeddings.filter((at) => !influencedValues(index.nodes, outputsOf(index, [at])).has(first));
  const tables = others.flatMap((at) => inputsOf(index.nodes[at]!).filter((value) => index.constants.has(value)));
  return [...new Set(tables.flatMap((table) => initializersOf(index, table)))];
}

function initializersOf(index: GraphIndex, value: string): string[] {
  if (index.initializers.has(value)) return [value];
  const producer = producerNode(index, value);
  return producer === undefined ? [] : inputsOf(producer).flatMap((input) => initializersOf(index, input));
}

function countParameters({ index, facts, isOwn = () => true }: DetectRequest): number {
  const parametersPerElement = countPackedParameters(index.nodes);
  return [...index.initializers].reduce((sum, name) => {
    const fact = facts.get(name);
    const perElement = parametersPerElement.get(name) ?? Number(isFloatType(fact?.dataType ?? 0));
    return fact !== undefined && isOwn(name) ? sum + perElement * elementCount(fact.dims) : sum;
  }, 0);
}
