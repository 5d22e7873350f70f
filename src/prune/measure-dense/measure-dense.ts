import type { PrunableModule } from '../../architecture/layout.js';
import type { ChannelStatistics } from '../../compensation/adapter.js';
import { OptionError } from '../../errors.js';
import { METRICS } from '../../importance/metrics.js';
import { refuseNaN } from '../../onnx/refuse-nan.js';
import { type ResolvedOptions, readsTokens } from '../../options.js';
import type { TensorStore } from '../../runtime/tensor-store.js';
import type { PruneJob, StageTiming } from '../job.js';
import { mayRemoveNeurons } from '../mixture-steps.js';
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

/** A dense model with measurements, which can be pruned several times. */
export interface MeasuredModel {
  readonly job: PruneJob;
  /** Modules that may be pruned. */
  readonly modules: readonly PrunableModule[];
  readonly dense: DenseMeasures;
  /** The metric's curvature at each module's output, by module index; undefined for a metric without. */
  readonly curvatures: Pick<TensorStore, 'get'> | undefined;
  /** Reads a module's saved statistics, one entry per group. Absent: they are measured while pruning. */
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

/** Joins the orders of modules that share keys and values. */
function joinShared(
  { job: { options } }: PruneContext,
  { modules }: Pick<DenseNeeds, 'modules'>,
  dense: DenseMeasures,
): DenseMeasures {
  const { orders } = dense;
  return orders === undefined ? dense : { ...dense, orders: joinOrders(orders, modules, options.headUnit) };
}

/**
 * Reads the measurements of the dense model from saved statistics. `pruneMeasured` then prunes each block by the dense model's
 * statistics instead of the pruned model's. Tokens run only if the job has windows: for refinements, and to order experts that
 * the statistics have no order of.
 * @throws OptionError when they lack what the options need, with the remedy; ModelFormatError when they are damaged.
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
      'allExperts does not change the order of neurons inside experts, which the statistics have; it has an effect on the repair of experts',
    );
  if ([...experts].some(([module, { neurons }]) => mayRemoveNeurons(module, options) && neurons === undefined))
    context.remarks.push('neurons inside experts stay: statistics have no removal order of them');
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
      // Contexts of the statistics' windows, not of the job's.
      const needs = { modules, curvatures, grouping: undefined, functional: read.functional };
      return { read, experts: (await measureExperts(context, needs)).orders };
    }
    const mixtures = modules.filter(({ kind }) => kind === 'experts');
    return { read, experts: new Map(mixtures.map((module) => [module, statistics.experts.get(module)!])) };
  }
}

/** Remedy if statistics lack the order of experts. */
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
    // Heads that several blocks share are chosen before the first of these is pruned.
    ...(order === undefined && sharing.length > 0 ? { order: adapter, ordered: sharing } : { order }),
  };
}

/** Passes of the calibration tokens over the dense model, for the progress and estimates of time. */
export interface DensePassKinds {
  readonly forwards: boolean;
  readonly backwards: boolean;
  /** Whether the forward pass sums statistics of the channels. */
  readonly sums: boolean;
  /** Whether the backward pass reads all tokens, for affinities or sensitivities, or only as many as a curvature needs. */
  readonly allBackwards: boolean;
}

/** Passes of `measureDense` over the model. */
export function densePassKinds(options: ResolvedOptions): DensePassKinds {
  const needs = { ...denseNeeds([], options), curvatures: undefined };
  const backwards = METRICS[options.metric].hasCurvature || needsGradients(needs);
  const sums = needs.order !== undefined;
  const allBackwards = needsAllTokens(needs);
  return { forwards: backwards || sums || needs.blockChange, backwards, sums, allBackwards };
}
