import type { PrunableModule } from '../architecture/layout.js';
import type { ChannelStatistics } from '../compensation/adapter.js';
import { OptionError } from '../errors.js';
import { METRICS } from '../importance/metrics.js';
import { refuseNaN } from '../onnx/refuse-nan.js';
import { type ResolvedOptions, readsTokens } from '../options.js';
import type { HiddenStates } from '../runtime/hidden-states.js';
import { type DenseNeeds, type DenseObservation, looksBackwards } from './dense-observation.js';
import type { DenseStatistics } from './dense-statistics.js';
import type { PruneJob, StageTiming } from './job.js';
import { createCurvatureStates } from './kept-statistics.js';
import { observeDense } from './observe-dense.js';
import { recallDense } from './recall-dense.js';
import { startRun } from './run.js';
import { selectModules } from './select-modules.js';

/** A dense model that was looked at once, to be pruned once or several times. */
export interface ObservedModel {
  readonly job: PruneJob;
  /** Modules that may shrink. */
  readonly modules: readonly PrunableModule[];
  readonly dense: DenseObservation;
  /** How often the tokens go through the model, roughly: for the look, for each result that is made from it, and in all. */
  readonly passes: { readonly dense: number; readonly each: number; readonly all: number };
  /** The metric's curvature at each module's output, by module index, where the metric asks for it. */
  readonly curvatures: Pick<HiddenStates, 'get'> | undefined;
  /** Reads a module's statistics, one entry a group, where they were kept; absent: they are measured on the way. */
  readonly recall?: ((module: PrunableModule) => Promise<ChannelStatistics[]>) | undefined;
  readonly timings: readonly StageTiming[];
  readonly remarks: readonly string[];
  dispose(): Promise<void>;
}

/**
 * Looks at the dense model, as far as the options need it.
 * @param resultCount How often it will be pruned, for the progress.
 * @throws OptionError when the options read tokens and there are none.
 */
export async function observeModel(given: PruneJob, resultCount = 1): Promise<ObservedModel> {
  const job = { ...given, model: refuseNaN(given.model) };
  const { options } = job;
  if (job.windows.length === 0 && readsTokens(options)) {
    const { methodName, metric, allocationName } = options;
    const run = `method ${methodName} with metric ${metric} and allocation ${allocationName}`;
    throw new OptionError(`${run} reads tokens, but there are no windows; give at least one calibration window`);
  }
  const { modules, remarks: staying } = selectModules(job);
  const curvatures = METRICS[options.metric].hasCurvature ? await createCurvatureStates(job, modules) : undefined;
  try {
    const needs = { ...denseNeeds(modules, options), curvatures };
    const passes = planPasses(countDensePasses(needs), countPruningPasses(options), resultCount);
    const run = startRun(job, { all: passes.all, before: 0 });
    const dense = await observeDense(run, needs).finally(() => run.dispose());
    return {
      job,
      modules,
      dense,
      passes,
      curvatures,
      timings: run.timings(),
      remarks: [...staying, ...run.remarks],
      dispose: async () => curvatures?.dispose(),
    };
  } catch (error) {
    await curvatures?.dispose();
    throw error;
  }
}

/**
 * Takes the look at the dense model from statistics that were saved: no token runs. What comes of it is pruned by
 * `pruneObserved` on the dense model's statistics, not on what the pruned blocks before produce.
 * @param resultCount How often it will be pruned, for the progress.
 * @throws OptionError when they lack what the options need, saying how to make them; ModelFormatError when they are damaged.
 */
export async function recallModel(
  given: PruneJob,
  statistics: DenseStatistics,
  resultCount = 1,
): Promise<ObservedModel> {
  const job = { ...given, model: refuseNaN(given.model), windows: [] };
  const { options } = job;
  const { needs } = options.adapter;
  const { modules, remarks: staying } = selectModules(job);
  const passes = planPasses(1, 1, resultCount);
  const run = startRun(job, { all: passes.all, before: 0 });
  const request = { ...denseNeeds(modules, options), statistics };
  const dense = await recallDense(run, request).finally(() => run.dispose());
  const of = (module: PrunableModule) => (dense.functional.has(module) ? 'groups' : 'module');
  return {
    job,
    modules,
    dense,
    passes,
    curvatures: METRICS[options.metric].hasCurvature ? statistics.curvatures : undefined,
    recall: needs === 'none' ? undefined : (module) => statistics.read(module, { of: of(module), needs }),
    timings: run.timings(),
    // Statistics tell of the look they were taken by, which may have chosen the same.
    remarks: [...new Set([...staying, ...statistics.remarks, ...run.remarks])],
    dispose: async () => undefined,
  };
}

/** What the options want to know of the dense model. */
function denseNeeds(modules: readonly PrunableModule[], options: ResolvedOptions): Omit<DenseNeeds, 'curvatures'> {
  const { allocation, grouping } = options;
  return {
    blockChange: allocation.measures?.includes('blockChange') ?? false,
    sensitivity: allocation.measures?.includes('sensitivity') ?? false,
    grouping,
    modules,
    order: allocation.orderBy?.(options),
  };
}

/** How often the tokens go through the model to look at it, roughly, for the remaining time. */
function countDensePasses(needs: DenseNeeds): number {
  const backwards = looksBackwards(needs) ? 1 : 0;
  return backwards + (backwards > 0 || needs.blockChange || needs.order !== undefined ? 1 : 0);
}

const planPasses = (dense: number, each: number, resultCount: number): ObservedModel['passes'] => ({
  dense,
  each,
  all: dense + resultCount * each,
});

/** Steps on inputs look at half the tokens or fewer, of every other segment: once before them, and once after each. */
const countPruningPasses = ({ adapter, inputSteps }: ResolvedOptions): number => {
  if (adapter.needs === 'none') return 0;
  return 1.5 + (inputSteps > 0 ? 0.25 + 0.3 * inputSteps : 0);
};
