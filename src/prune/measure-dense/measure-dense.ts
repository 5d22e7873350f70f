import type { PrunableModule } from '../../architecture/layout.js';
import type { ChannelStatistics } from '../../compensation/adapter.js';
import { OptionError } from '../../errors.js';
import { METRICS } from '../../importance/metrics.js';
import { refuseNaN } from '../../onnx/refuse-nan.js';
import { type ResolvedOptions, readsTokens } from '../../options.js';
import type { TensorStore } from '../../runtime/tensor-store.js';
import type { PruneJob, StageTiming } from '../job.js';
import { takesNeurons } from '../mixture-steps.js';
import { type PruneContext, startContext } from '../prune-context.js';
import { selectModules, withoutExperts } from '../select-modules.js';
import { needsAllTokens } from './choose-backward-batches.js';
import { type DenseMeasures, type DenseNeeds, needsGradients } from './dense-measures.js';
import type { DenseStatistics } from './dense-statistics.js';
import { findReached } from './gradient-reach.js';
import { joinOrders, sharingModules } from './join-orders.js';
import { canOrderExperts, explainUnprunedExperts, readMeasures } from './load-statistics.js';
import { measureExperts } from './measure-experts.js';
import { measureOrRead } from './measures-checkpoint.js';
import { createCurvatureStore } from './statistics-store.js';

/** A dense model that was measured once, to be pruned once or several times. */
export interface MeasuredModel {
  readonly job: PruneJob;
  /** Modules that may shrink. */
  readonly modules: readonly PrunableModule[];
  readonly dense: DenseMeasures;
  /** The metric's curvature at each module's output, by module index, where the metric asks for it. */
  readonly curvatures: Pick<TensorStore, 'get'> | undefined;
  /** Reads a module's statistics, one entry a group, where they were saved; absent: they are measured while pruning. */
  readonly read?: ((module: PrunableModule) => Promise<ChannelStatistics[]>) | undefined;
  readonly timings: readonly StageTiming[];
  readonly remarks: readonly string[];
  dispose(): Promise<void>;
}

/**
 * Measures the dense model, as far as the options need it.
 * @throws OptionError when the options read tokens and there are none.
 */
export async function measureDense(given: PruneJob): Promise<MeasuredModel> {
  const job = { ...given, model: refuseNaN(given.model) };
  const { options } = job;
  if (job.windows.length === 0 && readsTokens(options)) {
    const { methodName, metric, allocationName } = options;
    const run = `method ${methodName} with metric ${metric} and allocation ${allocationName}`;
    throw new OptionError(`${run} reads tokens, but there are no windows; give at least one calibration window`);
  }
  const { modules, remarks: selectionRemarks } = selectModules(job);
  const curvatures = METRICS[options.metric].hasCurvature ? await createCurvatureStore(job, modules) : undefined;
  try {
    const needs = { ...denseNeeds(modules, options), curvatures };
    const context = startContext(job);
    const dense = await measureModel(context, needs).finally(() => context.dispose());
    return {
      job,
      modules,
      dense,
      curvatures,
      timings: context.timings(),
      remarks: [...selectionRemarks, ...context.remarks],
      dispose: async () => curvatures?.dispose(),
    };
  } catch (error) {
    await curvatures?.dispose();
    throw error;
  }
}

async function measureModel(context: PruneContext, needs: DenseNeeds): Promise<DenseMeasures> {
  const dense = await measureOrRead(context, needs);
  const experts = await measureExperts(context, { ...needs, functional: dense.functional });
  if (experts.orders.size === 0) return joinShared(context, needs, dense);
  const orders = new Map([...(dense.orders ?? []), ...experts.orders]);
  return joinShared(context, needs, { ...dense, orders, routings: experts.routings });
}

/** Orders of modules that share keys and values, as one. */
function joinShared(
  { job: { options } }: PruneContext,
  { modules }: Pick<DenseNeeds, 'modules'>,
  dense: DenseMeasures,
): DenseMeasures {
  const { orders } = dense;
  return orders === undefined ? dense : { ...dense, orders: joinOrders(orders, modules, options.headUnit) };
}

/**
 * Takes the measurements of the dense model from saved statistics. The result is pruned by `pruneMeasured` on the dense model's
 * statistics, not on what the pruned blocks before produce. Refinements read the job's windows, if any, and experts whose order the
 * statistics lack are ordered on them; else no token runs.
 * @throws OptionError when they lack what the options need, saying how to make them; ModelFormatError when they are damaged.
 */
export async function loadStatistics(given: PruneJob, statistics: DenseStatistics): Promise<MeasuredModel> {
  const job = { ...given, model: refuseNaN(given.model) };
  const { options } = job;
  const { needs } = options.adapter;
  const selected = selectModules(job);
  const reason = explainUnprunedExperts(selected.modules, options, statistics);
  const canOrder = reason !== undefined && canOrderExperts(selected.modules, options, statistics);
  const isOrdered = canOrder && job.windows.length > 0;
  const { modules, remarks: selectionRemarks } =
    reason === undefined || isOrdered ? selected : withoutExperts(selected, canOrder ? reason + READ_AGAIN : reason);
  const curvatures = METRICS[options.metric].hasCurvature ? statistics.curvatures : undefined;
  const context = startContext(job);
  const request = { ...denseNeeds(modules, options), statistics };
  const { read, experts } = await readAll().finally(() => context.dispose());
  const orders = new Map([...(read.orders ?? []), ...experts]);
  const routings = new Map(options.grouping && [...statistics.routings].filter(([module]) => experts.has(module)));
  const dense = joinShared(context, request, experts.size === 0 ? read : { ...read, orders, routings });
  if (options.allExperts && experts.size > 0 && !isOrdered)
    context.remarks.push(
      'allExperts orders no neurons inside experts: statistics hold their order; it has an effect where experts are repaired',
    );
  if ([...experts].some(([module, { neurons }]) => takesNeurons(module, options) && neurons === undefined))
    context.remarks.push('neurons inside experts stay: statistics hold nothing of them');
  const of = (module: PrunableModule) => (dense.functional.has(module) ? 'groups' : 'module');
  return {
    job,
    modules,
    dense,
    curvatures,
    read: needs === 'none' ? undefined : (module) => statistics.read(module, { of: of(module), needs }),
    timings: context.timings(),
    // Statistics have the remarks of the run that saved them, which may have chosen the same.
    remarks: [...new Set([...selectionRemarks, ...statistics.remarks, ...context.remarks])],
    dispose: async () => undefined,
  };

  async function readAll() {
    const read = await readMeasures(context, request);
    if (isOrdered) {
      // Contexts are those of all windows of the statistics.
      const needs = { modules, curvatures, grouping: undefined, functional: read.functional };
      return { read, experts: (await measureExperts(context, needs)).orders };
    }
    const mixtures = modules.filter(({ kind }) => kind === 'experts');
    return { read, experts: new Map(mixtures.map((module) => [module, statistics.experts.get(module)!])) };
  }
}

/** Remedy where statistics lack the order of experts. */
const READ_AGAIN = '; read windows of the statistics again to order them (calibration.windowCount)';

/** Refuses, before any token runs, options that need gradients which cannot be computed. @throws UnsupportedModelError */
export function refuseGradients(
  job: Pick<PruneJob, 'model' | 'analysed' | 'options'>,
  modules: readonly PrunableModule[],
): void {
  if (densePassKinds(job.options).backwards) findReached(job, denseNeeds(modules, job.options));
}

/** Measurements that the options need of the dense model. */
function denseNeeds(modules: readonly PrunableModule[], options: ResolvedOptions): Omit<DenseNeeds, 'curvatures'> {
  const { allocation, grouping, adapter, headUnit } = options;
  const order = allocation.orderBy?.(options);
  const sharing = [...sharingModules(modules, headUnit).values()].flat();
  return {
    blockChange: allocation.measures?.includes('blockChange') ?? false,
    sensitivity: allocation.measures?.includes('sensitivity') ?? false,
    grouping,
    modules,
    // Heads that leave several blocks at once are chosen before the first of them shrinks.
    ...(order === undefined && sharing.length > 0 ? { order: adapter, ordered: sharing } : { order }),
  };
}

/** Which ways the calibration tokens go through the dense model, for the progress and estimates of time. */
export interface DensePassKinds {
  readonly forwards: boolean;
  readonly backwards: boolean;
  /** Statistics of the channels are summed on the way forwards. */
  readonly sums: boolean;
  /** The backward pass takes all tokens, for affinities or sensitivities; else as many as a curvature needs. */
  readonly allBackwards: boolean;
}

/** Which ways `measureDense` goes through the model. */
export function densePassKinds(options: ResolvedOptions): DensePassKinds {
  const needs = { ...denseNeeds([], options), curvatures: undefined };
  const backwards = METRICS[options.metric].hasCurvature || needsGradients(needs);
  const sums = needs.order !== undefined;
  const allBackwards = needsAllTokens(needs);
  return { forwards: backwards || sums || needs.blockChange, backwards, sums, allBackwards };
}
