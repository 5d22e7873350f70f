import type { TokenContexts } from '../../activations/measure-affinity.js';
import { walkBackwards } from '../../activations/walk-backwards.js';
import { type BlockSpan, blockSpans, type PrunableModule } from '../../architecture/layout.js';
import type { Softening } from '../../autodiff/cross-entropy.js';
import { groupNeurons } from '../../grouping/group-neurons.js';
import { copyModel } from '../../onnx/edit-weights.js';
import type { ResolvedOptions } from '../../options.js';
import type { PruneContext } from '../prune-context.js';
import { chooseWayBack } from './choose-backward-batches.js';
import { type DenseMeasures, type DenseNeeds, type FunctionalModule, needsGradients } from './dense-measures.js';
import { keepStatistics } from './kept-statistics.js';
import { type BackwardMeasurement, measureBackwards, oneContext } from './measure-backwards.js';
import { type BackwardPass, type ForwardMeasures, measureForwards } from './measure-forwards.js';
import { refuseWayBack } from './refuse-backwards.js';

/** Looks at the dense model once forwards and, for whatever hangs on the loss, once backwards. */
export async function runMeasurements(context: PruneContext, needs: DenseNeeds): Promise<DenseMeasures> {
  const { job } = context;
  const { layout } = job.analysed.detected;
  const backwards = needsGradients(needs);
  if (!backwards && !needs.blockChange && needs.order === undefined) return { functional: new Map() };
  if (backwards) refuseWayBack(job.model, job.analysed, needs.modules);
  const spans = blockSpans(layout);
  const model = copyModel(job.model);
  const runner = await context.startRunner(model, { isFixed: true });
  const inputs = await job.createStates(job.windows.length);
  const backwardPass = backwards ? await startBackwardPass(context, spans, needs) : undefined;
  const cotangents = await job.createStates(job.windows.length);
  // In the metric, orders take the curvature, which the way back measures.
  const kept = needs.order && needs.curvatures ? await keepStatistics(job, needs.modules) : undefined;
  try {
    const seen = await measureForwards(context, { runner, inputs, backwardPass, kept, spans, needs }).finally(() =>
      inputs.dispose(),
    );
    if (backwardPass === undefined) return collect(context, { needs, seen, looks: [] });
    const looks = needs.modules.map((module) =>
      measureBackwards(context, model, { module, needs, kept, contexts: seen.contexts.get(module) }),
    );
    const inSpan = (span: BlockSpan) =>
      looks.filter(({ module }) => module.segment >= span.first && module.segment <= span.last);
    await context.timed('backward', () =>
      walkBackwards({
        engine: job.engine,
        model,
        analysed: job.analysed,
        ...backwardPass,
        spans,
        side: runner.side,
        cotangents,
        softened: softeningOf(job.options),
        metersOf: (span) => inSpan(span).flatMap(({ meters }) => meters),
        onSpan: async (span) => {
          for (const look of inSpan(span)) await look.finish();
        },
        onBatch: (detail) => context.tick(detail, context.batches.length / backwardPass.batches.length),
        signal: job.options.signal,
      }),
    );
    return collect(context, { needs, seen, looks });
  } finally {
    await Promise.all([runner, backwardPass?.archive, cotangents, kept].map((part) => part?.dispose()));
  }
}

async function startBackwardPass(
  context: PruneContext,
  spans: readonly BlockSpan[],
  needs: DenseNeeds,
): Promise<BackwardPass> {
  const { job, batches } = context;
  const chosen = chooseWayBack(batches, needs);
  const windowCount = chosen.reduce((sum, { batchSize }) => sum + batchSize, 0);
  return { batches: chosen, archive: await job.createStates(windowCount, spans.length + 1) };
}

/**
 * Softer than the model itself, so that what it is sure of counts as well: at 1 tokens that it is sure of have next to no
 * gradient, and code, which is full of them, loses most (docs/notebook/auto.md).
 */
const DIVERGENCE_TEMPERATURE = 2;

function softeningOf({ metric, seed }: ResolvedOptions): Softening | undefined {
  return metric === 'divergence' ? { temperature: DIVERGENCE_TEMPERATURE, seed } : undefined;
}

interface Looked {
  readonly needs: DenseNeeds;
  readonly seen: ForwardMeasures;
  readonly looks: readonly BackwardMeasurement[];
}

function collect(context: PruneContext, { needs, seen, looks }: Looked): DenseMeasures {
  const sensitivity = new Float64Array(context.job.analysed.detected.layout.blockCount);
  const functional = new Map<PrunableModule, FunctionalModule>();
  const orders = new Map(seen.orders);
  for (const { module, found } of looks) {
    if (found.order) orders.set(module, found.order);
    if (found.affinity === undefined) continue;
    const contexts = seen.contexts.get(module);
    sensitivity[module.block]! += meanAffinity(found.affinity, contexts ?? oneContext(context));
    if (contexts === undefined || needs.grouping === undefined) continue;
    const { assignment, sharedGroup } = needs.grouping;
    const { contextCount } = contexts;
    const { affinity } = found;
    if (affinity.every((value) => value === 0)) {
      context.remarks.push(
        `block ${module.block} ffn: no neuron has affinity to any context, so that groups are by index; activations or gradients are zero on all calibration tokens`,
      );
    }
    const groups = groupNeurons({ affinity, contextCount, assignment, sharedGroup, random: context.random });
    functional.set(module, { contexts, groups, affinity });
  }
  return { blockChange: seen.blockChange, sensitivity, functional, ...(needs.order && { orders }) };
}

/** Mean over all tokens and neurons. */
function meanAffinity(affinity: Float64Array, { contextCount, contextOfToken }: TokenContexts): number {
  const counts = new Float64Array(contextCount);
  for (const context of contextOfToken) counts[context]! += 1;
  const unitCount = affinity.length / contextCount;
  const sum = affinity.reduce(
    (total, value, at) => total + (counts[Math.floor(at / unitCount)]! / contextOfToken.length) * value,
    0,
  );
  return sum / unitCount;
}
