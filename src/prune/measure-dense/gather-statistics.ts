import type { PrunableModule } from '../../architecture/layout.js';
import type { ChannelStatistics } from '../../compensation/adapter.js';
import { METRICS } from '../../importance/metrics.js';
import { copyModel } from '../../onnx/edit-weights.js';
import { refuseNaN } from '../../onnx/refuse-nan.js';
import type { PruneJob, StageTiming } from '../job.js';
import { measureModules } from '../measure-modules.js';
import { type PruneContext, startContext } from '../prune-context.js';
import { openSegmentCheckpoint } from '../segment-checkpoint.js';
import { selectModules } from '../select-modules.js';
import type { DenseMeasures } from './dense-measures.js';
import type { StatisticsKind } from './dense-statistics.js';
import { measureExperts } from './measure-experts.js';
import { measureOrRead } from './measures-checkpoint.js';
import { createCurvatureStore } from './statistics-store.js';

/** Measurements of one module of the dense model. */
export interface MeasuredModule {
  readonly module: PrunableModule;
  /** All channels, with equal token weights. */
  readonly whole: ChannelStatistics;
  /** Channels of each function group with its token weights; absent where neurons are not grouped. */
  readonly groups?: readonly ChannelStatistics[] | undefined;
  /** `[out, out]` row-major; absent for a metric without curvature. */
  readonly curvature?: Float32Array | undefined;
}

/** Measurements of the dense model as a whole. */
export interface GatheredStatistics {
  /** Its orders are those of experts. */
  readonly dense: DenseMeasures;
  readonly timings: readonly StageTiming[];
  readonly remarks: readonly string[];
}

/** Receives statistics, in the order of the model. */
export interface StatisticsSink {
  addModule(measured: MeasuredModule): Promise<void>;
  /** @param curvature See `MeasuredModule`. */
  addMixture(module: PrunableModule, curvature: MeasuredModule['curvature']): Promise<void>;
}

/** Sums that the method of the options needs. */
export const statisticsKind = ({ adapter }: PruneJob['options']): StatisticsKind =>
  adapter.needs === 'gram' ? 'gram' : 'moments';

/**
 * Measures everything of a dense model that pruning may need of tokens. Matrices as large as a Gram matrix go to the sink one
 * by one. Experts are not ordered in a shard, since orders of several shards cannot be added.
 * @throws UnsupportedModelError, NumericalError, EngineError; the signal's reason when aborted.
 */
export async function gatherStatistics(given: PruneJob, sink: StatisticsSink): Promise<GatheredStatistics> {
  const job = { ...given, model: refuseNaN(given.model) };
  const { options } = job;
  const { modules, remarks: selectionRemarks } = selectModules(job);
  const isShard = job.firstWindow !== undefined;
  const curvatures = METRICS[options.metric].hasCurvature ? await createCurvatureStore(job, modules) : undefined;
  try {
    // Sensitivity costs little once there is a backward pass.
    const sensitivity = options.grouping !== undefined || curvatures !== undefined;
    const needs = {
      blockChange: true,
      sensitivity,
      grouping: options.grouping,
      modules,
      curvatures,
      order: undefined,
    };
    const context = startContext(job);
    try {
      const { blockChange, functional, ...measured } = await measureOrRead(context, needs);
      const { grouping } = needs;
      const experts = isShard
        ? undefined
        : await measureExperts(context, { modules, curvatures, grouping, functional });
      const dense: DenseMeasures = {
        functional,
        ...(blockChange && { blockChange }),
        ...(sensitivity && measured.sensitivity && { sensitivity: measured.sensitivity }),
        orders: experts?.orders ?? new Map(),
        routings: experts?.routings ?? new Map(),
      };
      const curvatureOf = async ({ index }: PrunableModule) =>
        curvatures && ((await curvatures.get(index)).data as Float32Array);
      const isMixture = ({ kind }: PrunableModule) => kind === 'experts';
      for (const module of modules.filter(isMixture)) await sink.addMixture(module, await curvatureOf(module));
      const others = modules.filter((module) => !isMixture(module));
      await measureAll(context, { modules: others, dense }, async (measured) =>
        sink.addModule({ ...measured, curvature: await curvatureOf(measured.module) }),
      );
      return { dense, timings: context.timings(), remarks: [...selectionRemarks, ...context.remarks] };
    } finally {
      await context.dispose();
    }
  } finally {
    await curvatures?.dispose();
  }
}

interface Measuring {
  readonly modules: readonly PrunableModule[];
  readonly dense: DenseMeasures;
}

async function measureAll(
  context: PruneContext,
  { modules, dense: { functional } }: Measuring,
  onModule: (measured: MeasuredModule) => Promise<void>,
): Promise<void> {
  const needs = statisticsKind(context.job.options);
  const lastSegment = Math.max(0, ...modules.map(({ segment }) => segment));
  context.begin('observe', lastSegment + 1, 2 * context.batches.length);
  const checkpoint = await openSegmentCheckpoint(context);
  for await (const part of checkpoint.added()) {
    const { index, ...measured } = part as SavedModule;
    await onModule({ module: modules.find((module) => module.index === index)!, ...measured });
  }
  const runner = await context.startRunner(copyModel(context.job.model), { isFixed: true });
  try {
    await checkpoint.restore(runner);
    while (runner.segment < lastSegment) {
      context.startPart(runner.segment);
      await context.pass(runner);
      const here = modules.filter((module) => module.segment === runner.segment);
      const grouped = here.filter((module) => functional.has(module));
      const whole = await measureModules(context, { runner, modules: here, needs, functional: new Map() });
      const groups = await measureModules(context, { runner, modules: grouped, needs, functional });
      const measured = here.map((module, at) => ({
        module,
        whole: whole[at]![0]!,
        groups: groups[grouped.indexOf(module)],
      }));
      for (const one of measured) await onModule(one);
      checkpoint.add(runner.segment, {
        byteLength: measured.reduce((sum, one) => sum + bytesOf(one), 0),
        parts: async () => measured.map(toSaved),
      });
      await checkpoint.saveIfNeeded(runner.segment + 1, runner);
    }
  } finally {
    await runner.dispose();
  }
}

/** A `MeasuredModule` as plain data; the curvature is saved with the other measures. */
interface SavedModule extends Pick<MeasuredModule, 'whole' | 'groups'> {
  readonly index: number;
}

const toSaved = ({ module, ...measured }: MeasuredModule): SavedModule => ({ index: module.index, ...measured });

const bytesOf = ({ whole, groups = [] }: MeasuredModule): number =>
  [whole, ...groups].reduce((sum, { gram }) => sum + (gram?.byteLength ?? 0), 0);
