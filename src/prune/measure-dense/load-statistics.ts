import type { PrunableModule } from '../../architecture/layout.js';
import { EMPTY_STATISTICS, type StatisticsNeed } from '../../compensation/adapter.js';
import { OptionError } from '../../errors.js';
import { METRICS } from '../../importance/metrics.js';
import type { ResolvedOptions } from '../../options.js';
import { type PruneContext, segmentName } from '../prune-context.js';
import type { DenseMeasures, DenseNeeds } from './dense-measures.js';
import type { DenseStatistics } from './dense-statistics.js';
import { orderModule } from './measure-backwards.js';
import type { ModuleRemovalOrder } from './order-units.js';

/** Measurements that a run needs of the dense model, and the statistics to read them from. */
export interface ReadRequest extends Omit<DenseNeeds, 'curvatures'> {
  readonly statistics: DenseStatistics;
}

/** Reads measurements from saved statistics. @throws OptionError when they lack something; ModelFormatError when damaged. */
export async function readMeasures(context: PruneContext, request: ReadRequest): Promise<DenseMeasures> {
  const { options } = context.job;
  const { statistics, modules, grouping } = request;
  checkStatistics(options, request);
  const { blockChange, sensitivity } = statistics;
  const orders = request.order && (await findOrders(context, request));
  return {
    blockChange,
    ...(sensitivity && { sensitivity }),
    functional: new Map(grouping && [...statistics.functional].filter(([module]) => modules.includes(module))),
    ...(orders && { orders }),
  };
}

/** Why statistics do not allow a run to remove experts; undefined if they do. */
export function explainUnprunedExperts(
  modules: readonly PrunableModule[],
  { metric, expertScore }: Pick<ResolvedOptions, 'metric' | 'expertScore'>,
  statistics: DenseStatistics,
): string | undefined {
  if (modules.some((module) => module.kind === 'experts' && !statistics.experts.has(module)))
    return 'statistics have no removal order of them';
  if (metric !== statistics.metric)
    return `statistics order them by metric ${statistics.metric}, but the run uses ${metric}`;
  if (expertScore !== statistics.expertScore)
    return `statistics order them by expertScore ${statistics.expertScore}, but the run uses ${expertScore}`;
  return undefined;
}

/** Whether statistics have the curvatures to order experts on windows that are read again. */
export function canOrderExperts(
  modules: readonly PrunableModule[],
  { metric }: Pick<ResolvedOptions, 'metric'>,
  statistics: DenseStatistics,
): boolean {
  if (!METRICS[metric].hasCurvature) return true;
  const isKnown = (module: PrunableModule) => module.kind !== 'experts' || statistics.mixtures.has(module);
  return metric === statistics.metric && modules.every(isKnown);
}

async function findOrders(
  context: PruneContext,
  { statistics, ordered, order: adapter, ...request }: ReadRequest,
): Promise<Map<PrunableModule, ModuleRemovalOrder>> {
  const { job } = context;
  const orders = new Map<PrunableModule, ModuleRemovalOrder>();
  const modules = (ordered ?? request.modules).filter(({ kind }) => kind !== 'experts');
  context.begin('measure', modules.length, 1);
  for (const [at, module] of modules.entries()) {
    job.options.signal?.throwIfAborted();
    context.startPart(at);
    const { needs } = adapter!;
    const [measured = EMPTY_STATISTICS] =
      needs === 'none' ? [] : await statistics.read(module, { of: 'module', needs });
    const found = METRICS[job.options.metric].hasCurvature ? await statistics.curvatures!.get(module.index) : undefined;
    const curvature = found && Float64Array.from(found.data as Float32Array);
    orders.set(
      module,
      await orderModule(context, job.model, { module, adapter: adapter!, curvature, statistics: measured }),
    );
    context.tick(segmentName(module.segment, job.analysed.detected.layout.modules));
  }
  return orders;
}

/** Refuses statistics that a run cannot use. @throws OptionError with the missing part and how to get it. */
function checkStatistics(options: ResolvedOptions, { statistics, modules, order, sensitivity }: ReadRequest): void {
  const { name, sums, seed } = statistics;
  const lacking = (option: string, problem: string, remedy: string) =>
    new OptionError(`${name} ${problem}. Make statistics again by observe ${remedy}.`, { option });
  const missing = modules.find((module) => module.kind !== 'experts' && !statistics.modules.has(module));
  if (missing !== undefined)
    throw lacking('modules', `lacks block ${missing.block} ${missing.kind}`, `with ${nameModules(options)}`);
  if (options.seed !== seed)
    throw lacking(
      'seed',
      `was made with seed ${seed}, and the run has seed ${options.seed}`,
      'with the same seed, or leave it out',
    );
  const needs: readonly (StatisticsNeed | undefined)[] = [options.adapter.needs, order?.needs];
  if (needs.includes('gram') && sums !== 'gram')
    throw lacking(
      'method',
      `has no Gram matrices, which ${options.methodName} reads`,
      `with method ${options.methodName}`,
    );
  if (METRICS[options.metric].hasCurvature && options.metric !== statistics.metric)
    throw lacking(
      'metric',
      `was measured by metric ${statistics.metric}, but the run uses ${options.metric}`,
      `with metric ${options.metric}`,
    );
  if (sensitivity && statistics.sensitivity === undefined)
    throw lacking(
      'metric',
      `has no gradients of the loss, which allocation ${options.allocationName} reads`,
      'with metric loss',
    );
  if (options.grouping === undefined) return;
  if (statistics.grouping === undefined)
    throw lacking(
      'grouping',
      'has no function groups, which the run uses',
      `with method ${options.methodName} and grouping`,
    );
  for (const part of ['grouping', 'weighting'] as const) {
    const differing = firstDifference(options[part]!, statistics[part]!);
    if (differing !== undefined)
      throw lacking(
        `${part}.${differing.key}`,
        `was made with ${part}.${differing.key} ${differing.other}, and the run has ${differing.one}`,
        `with the same ${part}, or leave it out`,
      );
  }
}

const nameModules = ({ modules, modulesNamed }: ResolvedOptions): string =>
  modulesNamed ? `modules ${modules.size > 1 ? 'all' : [...modules][0]}` : 'no modules named';

function firstDifference(one: object, other: object) {
  const texts = (value: object) => new Map(Object.entries(value).map(([key, part]) => [key, textOf(part)]));
  const [left, right] = [texts(one), texts(other)];
  const key = [...left.keys()].find((name) => left.get(name) !== right.get(name));
  return key === undefined ? undefined : { key, one: left.get(key), other: right.get(key) };
}

/** Infinity is not JSON. */
const textOf = (value: unknown): string => (typeof value === 'number' ? String(value) : JSON.stringify(value));
