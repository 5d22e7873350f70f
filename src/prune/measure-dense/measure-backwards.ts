import { type BackwardMeter, backpropagate } from '../../activations/backpropagate.js';
import { createCurvatureMeter } from '../../activations/curvature-meter.js';
import { createAffinityMeter, type TokenContexts } from '../../activations/measure-affinity.js';
import { type BlockSpan, blockSpans, logitsInBlocks, type PrunableModule } from '../../architecture/layout.js';
import type { ChannelStatistics, CompensationAdapter } from '../../compensation/adapter.js';
import type { UnsupportedModelError } from '../../errors.js';
import { freeBytes } from '../../free-bytes.js';
import { METRICS, type Metric } from '../../importance/metrics.js';
import type { OnnxModel } from '../../onnx/onnx-model.js';
import type { Softening } from '../../operators/cross-entropy.js';
import { readLinearWeight } from '../../removal/repair-linear.js';
import type { PruneContext } from '../prune-context.js';
import { weightByMetric } from '../weight-by-metric.js';
import { openBackwardCheckpoint } from './backward-checkpoint.js';
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
  const inSpan = ({ first, last }: BlockSpan) =>
    measured.filter(({ module: { segment } }) => segment >= first && segment <= last);
  const cotangents = await job.createStore(job.windows.length);
  beginGradients(context, backwardPass.batches.length);
  const found = new Map(measured.map((measurement) => [measurement.module, measurement.found]));
  const checkpoint = await openBackwardCheckpoint(context, {
    ...{ ...passes, backwardPass, forwards, cotangents },
    found: byIndex(found),
  });
  let left = checkpoint.start?.left ?? spans.length;
  let obstacle: UnsupportedModelError | undefined;
  try {
    await context.timed('backward', () =>
      backpropagate({
        engine: job.engine,
        model: passes.model,
        analysed: job.analysed,
        ...backwardPass,
        spans,
        side: passes.runner.side,
        cotangents,
        softened: softeningOf(job),
        metersOf: (span) => inSpan(span).flatMap(({ meters }) => meters),
        start: checkpoint.start,
        onSpan: async (span, place) => {
          for (const measurement of inSpan(span)) await measurement.finish();
          left = place.left;
          await checkpoint.saveIfNeeded(place);
        },
        onBatch: (detail, part) =>
          context.tick(detail, part === 'loss' ? logitsInBlocks(job.analysed.detected.layout) : 1),
        signal: job.options.signal,
      }),
    );
  } catch (error) {
    obstacle = asObstacle(error, job, needs);
  } finally {
    await cotangents.dispose();
  }
  const reached = spans[left]?.first ?? Number.POSITIVE_INFINITY;
  return { found: new Map([...found].filter(([{ segment }]) => segment >= reached)), obstacle };
}

/** Begins the stage of a backward pass: the loss, then all blocks. */
export function beginGradients(context: PruneContext, batchCount: number): void {
  const { analysed } = context.job;
  const spanCount = blockSpans(analysed.detected.layout).length;
  context.begin('gradients', 1, Math.ceil((logitsInBlocks(analysed.detected.layout) + spanCount) * batchCount));
}

function softeningOf({ options: { metric, seed }, firstWindow }: PruneContext['job']): Softening | undefined {
  const { temperature }: Metric = METRICS[metric];
  return temperature === undefined ? undefined : { temperature, seed, firstWindow };
}

/** Measurements of a module in the backward pass, and their results. */
interface BackwardMeasurement {
  readonly module: PrunableModule;
  readonly meters: readonly BackwardMeter[];
  /** Computes results when the meters have read all batches; large matrices are stored or freed. */
  finish(): Promise<void>;
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
  contextOfToken: new Int32Array(batches.reduce((sum, { tokens }) => sum + tokens.length, 0)),
});
