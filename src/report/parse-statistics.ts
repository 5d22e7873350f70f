import { MODULE_KINDS, type ModelLayout, type PrunableModule } from '../architecture/layout.js';
import type { ChannelStatistics } from '../compensation/adapter.js';
import type { ExpertScoreName } from '../importance/expert-scores.js';
import { METRICS } from '../importance/metrics.js';
import { triangleLength, unpackTriangle } from '../linalg/triangle.js';
import {
  anyObject,
  anyText,
  arrayOf,
  boolean,
  choice,
  type Fields,
  integer,
  type Kind,
  namesOf,
  optional,
  withFields,
} from '../options/kinds.js';
import type { ResolvedGrouping, ResolvedOptions } from '../options.js';
import type { FunctionalModule, MixtureRouting } from '../prune/measure-dense/dense-measures.js';
import type { DenseStatistics, StatisticsKind } from '../prune/measure-dense/dense-statistics.js';
import type { ModuleRemovalOrder } from '../prune/measure-dense/order-units.js';
import type { TensorStore } from '../runtime/tensor-store.js';
import { findTensor, readDoubles, readFloats, readIntegers, type SavedTensors, TENSOR_TYPES } from './find-tensor.js';
import { checkSavedFile, damaged } from './saved-file.js';
import {
  MODEL_TENSORS,
  type SavedContexts,
  type SavedMixture,
  type SavedModule,
  type SavedShard,
  type SavedStatistics,
  STATISTICS_SCHEMA,
  sumNames,
  tensorNames,
} from './statistics-schema.js';

const shardFields = withFields({ index: integer(1), count: integer(1), firstWindow: integer(0) });

const SHARD: Kind<SavedShard> = {
  ...shardFields,
  accepts: (value): value is SavedShard =>
    shardFields.accepts(value) && (value as SavedShard).index <= (value as SavedShard).count,
  expected: 'an index of at most count',
};

const MODULE = { index: integer(0), block: integer(0), kind: choice(MODULE_KINDS) };

/** Fields of statistics in addition to those of every saved file. */
export const STATISTICS = {
  run: optional(anyText),
  method: anyText,
  seed: integer(0),
  calibration: withFields({ tokensSha256: anyText, windowCount: integer(0), windowLength: integer(0) }),
  shard: optional(SHARD),
  sums: choice(['moments', 'gram']),
  metric: choice(namesOf(METRICS)),
  modules: arrayOf(
    withFields({
      ...MODULE,
      contexts: optional(
        withFields({
          feature: anyText,
          featureCount: integer(0),
          componentCount: integer(0),
          contextCount: integer(0),
          typicalCount: integer(0),
        }),
      ),
    }),
  ),
  experts: optional(
    arrayOf(
      withFields({
        ...MODULE,
        neurons: boolean,
        ordered: optional(boolean),
        contexts: optional(withFields({ contextCount: integer(0), typicalCount: integer(0) })),
      }),
    ),
  ),
  remarks: arrayOf(anyText),
  settings: anyObject,
} satisfies Fields;

/**
 * Checks the fields of saved statistics, without model and tensors.
 * @param file for messages
 * @throws ModelFormatError naming file and field.
 */
export function checkSavedStatistics(json: Readonly<Record<string, unknown>>, file: string): SavedStatistics {
  const found = json as Partial<SavedStatistics>;
  checkSavedFile(found, file, { kind: 'statistics', schema: STATISTICS_SCHEMA, fields: STATISTICS });
  return found as SavedStatistics;
}

export interface StatisticsContext extends SavedTensors {
  readonly layout: ModelLayout;
}

/** Statistics that are read lazily, and their windows. */
export interface OpenStatistics {
  readonly statistics: DenseStatistics;
  readonly windows: readonly Int32Array[];
}

/**
 * Opens statistics for a model. Sums remain in the file until they are read; their shapes are checked at once.
 * @throws ModelFormatError naming file and module or tensor that does not fit.
 */
export async function parseStatistics(saved: SavedStatistics, context: StatisticsContext): Promise<OpenStatistics> {
  const { layout, tensors, files } = context;
  const { windowCount, windowLength } = saved.calibration;
  const tokenCount = windowCount * windowLength;
  const ids = { dims: [windowCount, windowLength], least: 0, limit: layout.vocabularySize };
  const tokens = await readIntegers(MODEL_TENSORS.windows, ids, context);
  const modules = saved.modules.map((entry, at) => findModule(entry, at, context));
  const functional = new Map<PrunableModule, FunctionalModule>();
  for (const [at, module] of modules.entries()) {
    const found = await readFunctions(module, { ...context, contexts: saved.modules[at]!.contexts, tokenCount });
    if (found !== undefined) functional.set(module, found);
    checkShapes(module, { ...context, saved, found });
  }
  const experts = new Map<PrunableModule, ModuleRemovalOrder>();
  const mixtures = new Set<PrunableModule>();
  const routings = new Map<PrunableModule, MixtureRouting>();
  for (const [at, entry] of (saved.experts ?? []).entries()) {
    const module = findModule(entry, at, context, 'experts');
    if (entry.ordered !== false) experts.set(module, await readExperts(module, entry, context));
    if (METRICS[saved.metric].hasCurvature && tensors.has(tensorNames(module).curvature)) {
      checkCurvature(module, context);
      mixtures.add(module);
    }
    if (entry.contexts) routings.set(module, await readRouting(module, { ...entry.contexts, tokenCount }, context));
  }
  const perBlock = [layout.blockCount];
  const hasSensitivity = tensors.has(MODEL_TENSORS.sensitivity);
  return {
    windows: Array.from({ length: windowCount }, (_, at) => tokens.slice(at * windowLength, (at + 1) * windowLength)),
    statistics: {
      name: files.json,
      modules: new Set(modules),
      sums: saved.sums,
      seed: saved.seed,
      ...parseSettings(saved),
      functional,
      blockChange: await readDoubles(MODEL_TENSORS.blockChange, perBlock, context),
      ...(hasSensitivity && { sensitivity: await readDoubles(MODEL_TENSORS.sensitivity, perBlock, context) }),
      metric: saved.metric,
      experts,
      mixtures,
      routings,
      expertScore: (saved.settings.expertScore as ExpertScoreName | undefined) ?? 'removal',
      curvatures: METRICS[saved.metric].hasCurvature ? readCurvatures(context) : undefined,
      remarks: saved.remarks,
      read: (module, { of, needs }) => {
        const { functions } = functional.get(module)?.groups ?? {};
        const { sumsOf } = tensorNames(module);
        const channels = { tokenCount, needs, context };
        if (of === 'module' || functions === undefined)
          return Promise.all([readSums(sumsOf(), { ...channels, size: module.output.inputCount })]);
        return Promise.all(
          functions.map((units, group) =>
            readSums(sumsOf(group), { ...channels, size: units.length * module.unitSize }),
          ),
        );
      },
    },
  };
}

/** @param list of the entry; experts have a separate one */
function findModule(
  entry: unknown,
  at: number,
  { layout, files }: StatisticsContext,
  list: 'modules' | 'experts' = 'modules',
): PrunableModule {
  const { index, block, kind } = Object(entry) as SavedModule;
  const module = layout.modules[index];
  const isListed = (kind === 'experts') === (list === 'experts');
  if (module !== undefined && module.block === block && module.kind === kind && isListed) return module;
  throw damaged('statistics', `${files.json}: ${list}[${at}] (block ${block} ${kind}) is not a module of the model`);
}

async function readExperts(
  module: PrunableModule,
  { neurons }: SavedMixture,
  context: StatisticsContext,
): Promise<ModuleRemovalOrder> {
  const names = tensorNames(module);
  const { unitCount, groupCount = 1 } = module;
  const order = {
    scores: await readDoubles(names.expertScores, [unitCount], context),
    costs: await readDoubles(names.expertCosts, [unitCount / groupCount], context),
  };
  if (!neurons || module.neurons === undefined) return order;
  const dims = [unitCount, module.neurons.unitCount];
  const inside = {
    scores: await readDoubles(names.neuronScores, dims, context),
    costs: await readDoubles(names.neuronCosts, dims, context),
  };
  return { ...order, neurons: inside };
}

interface ContextsShape extends Pick<SavedContexts, 'contextCount' | 'typicalCount'> {
  readonly tokenCount: number;
}

async function readRouting(
  module: PrunableModule,
  shape: ContextsShape,
  context: StatisticsContext,
): Promise<MixtureRouting> {
  const { contextCount, tokenCount } = shape;
  const counts = { dims: [contextCount, module.unitCount], least: 0, limit: tokenCount + 1 };
  return {
    contexts: { contextCount, ...(await readContexts(module, shape, context)) },
    tokens: await readIntegers(tensorNames(module).routing, counts, context),
  };
}

/** Context of every token, and typical tokens. */
async function readContexts(
  module: PrunableModule,
  { contextCount, typicalCount, tokenCount }: ContextsShape,
  context: StatisticsContext,
): Promise<Pick<MixtureRouting['contexts'], 'contextOfToken' | 'typicalTokens'>> {
  const names = tensorNames(module);
  const typicalShape = { dims: [contextCount, typicalCount], least: -1, limit: tokenCount };
  const typical = await readIntegers(names.typicalTokens, typicalShape, context);
  return {
    contextOfToken: await readIntegers(
      names.contextOfToken,
      { dims: [tokenCount], least: 0, limit: contextCount },
      context,
    ),
    typicalTokens: Array.from({ length: contextCount }, (_, of) =>
      typical.slice(of * typicalCount, (of + 1) * typicalCount).filter((token) => token >= 0),
    ),
  };
}

/** Resolved grouping and weighting; infinite numbers are saved as text. */
function parseSettings({ settings }: SavedStatistics): Pick<DenseStatistics, 'grouping' | 'weighting'> {
  const grouping = settings.grouping as (ResolvedGrouping & { readonly clusterBalance: unknown }) | false;
  return {
    grouping: grouping ? { ...grouping, clusterBalance: Number(grouping.clusterBalance) } : undefined,
    weighting: settings.weighting as unknown as ResolvedOptions['weighting'],
  };
}

interface ShapeCase extends StatisticsContext {
  readonly saved: SavedStatistics;
  readonly found: FunctionalModule | undefined;
}

/** Finds damage before the run begins. */
function checkShapes(module: PrunableModule, { saved, found, ...context }: ShapeCase): void {
  const { output, unitSize } = module;
  const names = tensorNames(module);
  const groups = (found?.groups.functions ?? []).map(
    (units, group) => [names.sumsOf(group), units.length * unitSize] as const,
  );
  for (const [of, size] of [[names.sumsOf(), output.inputCount] as const, ...groups]) {
    const { mean, variance, covariance } = sumNames(of);
    for (const name of [mean, variance]) findTensor(name, { dataType: TENSOR_TYPES.double, dims: [size] }, context);
    if (saved.sums === 'gram') checkTriangle(covariance, size, context);
  }
  if (METRICS[saved.metric].hasCurvature) checkCurvature(module, context);
}

const checkTriangle = (name: string, size: number, context: StatisticsContext) =>
  findTensor(name, { dataType: TENSOR_TYPES.float, dims: [triangleLength(size)] }, context);

const checkCurvature = (module: PrunableModule, context: StatisticsContext) =>
  checkTriangle(tensorNames(module).curvature, module.output.outputCount, context);

interface SumsCase {
  readonly size: number;
  readonly tokenCount: number;
  readonly needs: StatisticsKind;
  readonly context: StatisticsContext;
}

async function readSums(of: string, { size, tokenCount, needs, context }: SumsCase): Promise<ChannelStatistics> {
  const names = sumNames(of);
  const mean = await readDoubles(names.mean, [size], context);
  const variance = await readDoubles(names.variance, [size], context);
  if (needs === 'moments') return { tokenCount, mean, variance };
  const covariance = await readFloats(names.covariance, [triangleLength(size)], context);
  const gram = unpackTriangle(covariance, size, (row, column) => mean[row]! * mean[column]!);
  return { tokenCount, mean, variance, gram };
}

function readCurvatures(context: StatisticsContext): Pick<TensorStore, 'get'> {
  return {
    async get(index) {
      const module = context.layout.modules[index]!;
      const size = module.output.outputCount;
      const triangle = await readFloats(tensorNames(module).curvature, [triangleLength(size)], context);
      return { type: 'float32', dims: [size, size], data: Float32Array.from(unpackTriangle(triangle, size)) };
    },
  };
}

interface FunctionsCase extends StatisticsContext {
  readonly contexts: SavedModule['contexts'];
  readonly tokenCount: number;
}

async function readFunctions(
  module: PrunableModule,
  { contexts, tokenCount, ...context }: FunctionsCase,
): Promise<FunctionalModule | undefined> {
  if (contexts === undefined) return undefined;
  const { feature, featureCount, componentCount, contextCount } = contexts;
  const { unitCount } = module;
  const names = tensorNames(module);
  const groupOf = await readIntegers(names.groups, { dims: [unitCount], least: -1, limit: contextCount }, context);
  const membersOf = (group: number) =>
    Int32Array.from({ length: unitCount }, (_, unit) => unit).filter((unit) => groupOf[unit] === group);
  const all = Array.from({ length: contextCount }, (_, context) => context);
  return {
    contexts: {
      feature,
      contextCount,
      pca: {
        size: featureCount,
        componentCount,
        mean: await readDoubles(names.pcaMean, [featureCount], context),
        components: Float64Array.from(await readFloats(names.pcaComponents, [featureCount, componentCount], context)),
        variances: await readDoubles(names.pcaVariances, [componentCount], context),
      },
      centers: await readDoubles(names.centers, [contextCount, componentCount], context),
      ...(await readContexts(module, { ...contexts, tokenCount }, context)),
    },
    groups: { shared: membersOf(-1), functions: all.map(membersOf) },
    affinity: Float64Array.from(await readFloats(names.affinity, [contextCount, unitCount], context)),
  };
}
