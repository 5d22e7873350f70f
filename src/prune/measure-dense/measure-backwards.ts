import { type BackwardMeter, backpropagate } from '../../activations/backpropagate.js';
import { createCurvatureMeter } from '../../activations/curvature-meter.js';
import { createAffinityMeter, type TokenContexts } from '../../activations/measure-affinity.js';
import { type BlockSpan, logitsInBlocks, type PrunableModule } from '../../architecture/layout.js';
import type { ChannelStatistics, CompensationAdapter } from '../../compensation/adapter.js';
import { UnsupportedModelError } from '../../errors.js';
import { freeBytes } from '../../free-bytes.js';
import { METRICS, type Metric } from '../../importance/metrics.js';
import type { OnnxModel } from '../../onnx/onnx-model.js';
import type { Softening } from '../../operators/cross-entropy.js';
import { readLinearWeight } from '../../removal/repair-linear.js';
import { countTokens } from '../../runtime/block-runner.js';
import type { PruneContext } from '../prune-context.js';
import { weightByMetric } from '../weight-by-metric.js';
import { type Backwards, openBackwardCheckpoint } from './backward-checkpoint.js';
import { type BackwardMeasures, type ForwardMeasures, orderOf } from './dense-measures.js';
import type { DensePasses } from './dense-passes.js';
import { asObstacle } from './gradient-reach.js';
import { byIndex } from './indexed-map.js';
import { type ModuleRemovalOrder, orderUnits } from './order-units.js';

/** Results of the backward pass. */
export interface BackwardOutcome {
  readonly found: ReadonlyMap<PrunableModule, BackwardMeasures>;
  /** Why it did not reach all modules; undefined if it did. */
  readonly obstacle?: UnsupportedModelError | undefined;
}

/**
 * Runs a backward pass of the loss through the dense model, for the needs: affinity of neurons to contexts, curvature, and
 * removal orders in its metric. Without needs for gradients it does nothing.
 *
 * @param forwards Has the contexts of each FFN's tokens; an FFN without has one context. @see FANG (arXiv 2512.23014), Eq. 5
 */
export async function measureBackwards(
  context: PruneContext,
  passes: DensePasses,
  forwards: ForwardMeasures,
): Promise<BackwardOutcome> {
  const { job } = context;
  const { backwardPass, spans, needs } = passes;
  if (backwardPass === undefined) return { found: new Map() };
  const measured = backwardPass.modules.map((module) =>
    openMeasurement(context, passes, module, forwards.contexts.get(module)),
  );
  const found = new Map(measured.map((measurement) => [measurement.module, measurement.found]));
  const { left, failure } = await passBackwards(context, passes, {
    backwardPass,
    forwards,
    measured,
    found: byIndex(found),
    softened: softeningOf(job),
  });
  const reached = spans[left]?.first ?? Number.POSITIVE_INFINITY;
  return {
    found: new Map([...found].filter(([{ segment }]) => segment >= reached)),
    obstacle: failure && asObstacle(failure, job, needs),
  };
}

/** A measurement of one segment in the backward pass. */
export interface SegmentMeasurement {
  readonly segment: number;
  readonly meters: readonly BackwardMeter[];
  /** Computes results when the meters have read all batches. */
  finish(): Promise<void>;
}

/** A backward pass after its forward pass, whose results are `found`. */
interface BackwardRun extends Pick<Backwards, 'backwardPass' | 'forwards' | 'found'> {
  readonly measured: readonly SegmentMeasurement[];
  readonly softened: Softening | undefined;
}

/**
 * Runs a backward pass with its measurements, and saves checkpoints.
 * @returns the number of blocks that are left, and the operator that stopped it.
 */
export async function passBackwards(
  context: PruneContext,
  passes: DensePasses,
  { backwardPass, forwards, found, measured, softened }: BackwardRun,
): Promise<{ readonly left: number; readonly failure?: UnsupportedModelError }> {
  const { analysed, engine, options, ...job } = context.job;
  const { model, runner, spans, needs } = passes;
  const logitsTicks = logitsInBlocks(analysed.detected.layout);
  const inSpan = ({ first, last }: BlockSpan) => measured.filter(({ segment }) => segment >= first && segment <= last);
  const cotangents = await job.createStore(job.windows.length);
  try {
    context.begin('gradients', 1, Math.ceil((logitsTicks + spans.length) * backwardPass.batches.length));
    const given = { needs, spans, backwardPass, forwards, found, cotangents };
    const checkpoint = await openBackwardCheckpoint(context, given);
    let left = checkpoint.start?.left ?? spans.length;
    const run = () =>
      backpropagate({
        engine,
        model,
        analysed,
        ...backwardPass,
        spans,
        cotangents,
        softened,
        side: runner.side,
        metersOf: (span) => inSpan(span).flatMap(({ meters }) => meters),
        start: checkpoint.start,
        async onSpan(span, place) {
          for (const measurement of inSpan(span)) await measurement.finish();
          left = place.left;
          await checkpoint.saveIfNeeded(place);
        },
        onBatch: (detail, part) => context.tick(detail, part === 'loss' ? logitsTicks : 1),
        signal: options.signal,
      });
    try {
      await context.timed('backward', run);
      return { left };
    } catch (failure) {
      if (failure instanceof UnsupportedModelError) return { left, failure };
      throw failure;
    }
  } finally {
    await cotangents.dispose();
  }
}

function softeningOf({ options: { metric, seed }, firstWindow }: PruneContext['job']): Softening | undefined {
  const { temperature }: Metric = METRICS[metric];
  return temperature === undefined ? undefined : { temperature, seed, firstWindow };
}

/** Measurements of a module in the backward pass, and their results. Large matrices are stored or freed. */
interface BackwardMeasurement extends SegmentMeasurement {
  readonly module: PrunableModule;
  readonly found: BackwardMeasures;
}

function openMeasurement(
  context: PruneContext,
  { model, needs, statisticsStore }: DensePasses,
  module: PrunableModule,
  contexts: TokenContexts | undefined,
): BackwardMeasurement {
  const { curvatures } = needs;
  const found: BackwardMeasures = {};
  const affinity =
    module.kind === 'ffn' && (needs.grouping !== undefined || needs.sensitivity)
      ? createAffinityMeter(module, contexts ?? oneContext(context))
      : undefined;
  const curvature = curvatures && createCurvatureMeter(module);
  return {
    module,
    segment: module.segment,
    meters: [...(affinity ? [affinity] : []), ...(curvature ? [curvature] : [])],
    found,
    async finish() {
      if (affinity) found.affinity = affinity.finish();
      const matrix = curvature?.finish();
      if (matrix && curvatures) {
        const dims = [module.output.outputCount, module.output.outputCount];
        await curvatures.put(module.index, { type: 'float32', dims, data: Float32Array.from(matrix) });
      }
      // Without curvature, the forward pass computed the order.
      const adapter = matrix && module.kind !== 'experts' ? orderOf(module, needs) : undefined;
      if (adapter === undefined || matrix === undefined) return;
      const statistics = await statisticsStore!.get(module);
      found.order = await orderModule(context, model, { module, adapter, curvature: matrix, statistics });
    },
  };
}

export interface OrderRequest {
  readonly module: PrunableModule;
  readonly adapter: CompensationAdapter;
  readonly curvature: Float64Array | undefined;
  readonly statistics: ChannelStatistics;
}

/** Orders a module's units by the dense model's statistics, of which the Gram matrix is freed. */
export async function orderModule(
  context: PruneContext,
  model: OnnxModel,
  given: OrderRequest,
): Promise<ModuleRemovalOrder> {
  const { curvature, module } = given;
  const { random, multiply } = context;
  const weight = await readLinearWeight(model, module.output);
  return context.timed('order', async () => {
    const scoredWeight = curvature && (await weightByMetric(context, module, { weight, curvature }));
    const { headUnit, signal } = context.job.options;
    const onUnits = (done: number) => {
      signal?.throwIfAborted();
      context.tick(`block ${module.block} ${module.kind}: ${done} of ${module.unitCount} units ordered`, 0);
    };
    const order = await orderUnits({ ...given, weight, scoredWeight, headUnit, random, multiply, onUnits });
    // For a wide FFN these are gigabytes, which the garbage collector would free late.
    freeBytes(...[given.statistics.gram, weight.data, scoredWeight?.data].filter((values) => values !== undefined));
    return order;
  });
}

/** One context of all tokens. */
export const oneContext = ({ batches }: PruneContext): TokenContexts => ({
  contextCount: 1,
  contextOfToken: new Int32Array(countTokens(batches)),
});
