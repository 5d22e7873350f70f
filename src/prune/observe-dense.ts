import type { TokenContexts } from '../activations/measure-affinity.js';
import { walkBackwards } from '../activations/walk-backwards.js';
import { type BlockSpan, blockSpans, type PrunableModule } from '../architecture/layout.js';
import type { Softening } from '../autodiff/cross-entropy.js';
import { groupNeurons } from '../grouping/group-neurons.js';
import { METRICS, type Metric } from '../importance/metrics.js';
import { copyModel } from '../onnx/edit-weights.js';
import type { ResolvedOptions } from '../options.js';
import { chooseWayBack } from './choose-way-back.js';
import { type DenseNeeds, type DenseObservation, type FunctionalModule, looksBackwards } from './dense-observation.js';
import { keepStatistics } from './kept-statistics.js';
import { lookBackAt, type ModuleLook, oneContext } from './look-back.js';
import { lookForwards, type SeenForwards, type WayBack } from './look-forwards.js';
import { refuseWayBack } from './refuse-way-back.js';
import type { Run } from './run.js';

/** Looks at the dense model once forwards and, for whatever hangs on the loss, once backwards. */
export async function observeDense(run: Run, needs: DenseNeeds): Promise<DenseObservation> {
  const { job } = run;
  const { layout } = job.analysed.detected;
  const backwards = looksBackwards(needs);
  if (!backwards && !needs.blockChange && needs.order === undefined) return { functional: new Map() };
  if (backwards) refuseWayBack(job.model, job.analysed, needs.modules);
  const spans = blockSpans(layout);
  const model = copyModel(job.model);
  const runner = await run.startRunner(model, { isFixed: true });
  const inputs = await job.createStates(job.windows.length);
  const wayBack = backwards ? await startWayBack(run, spans, needs) : undefined;
  const cotangents = await job.createStates(job.windows.length);
  // In the metric, orders take the curvature, which the way back measures.
  const kept = needs.order && needs.curvatures ? await keepStatistics(job, needs.modules) : undefined;
  try {
    const seen = await lookForwards(run, { runner, inputs, wayBack, kept, spans, needs }).finally(() =>
      inputs.dispose(),
    );
    if (wayBack === undefined) return collect(run, { needs, seen, looks: [] });
    const looks = needs.modules.map((module) =>
      lookBackAt(run, model, { module, needs, kept, contexts: seen.contexts.get(module) }),
    );
    const inSpan = (span: BlockSpan) =>
      looks.filter(({ module }) => module.segment >= span.first && module.segment <= span.last);
    await run.timed('backward', () =>
      walkBackwards({
        engine: job.engine,
        model,
        analysed: job.analysed,
        ...wayBack,
        spans,
        side: runner.side,
        cotangents,
        softened: softeningOf(job.options),
        metersOf: (span) => inSpan(span).flatMap(({ meters }) => meters),
        onSpan: async (span) => {
          for (const look of inSpan(span)) await look.finish();
        },
        onBatch: (detail) => run.tick(detail, run.batches.length / wayBack.batches.length),
        signal: job.options.signal,
      }),
    );
    return collect(run, { needs, seen, looks });
  } finally {
    await Promise.all([runner, wayBack?.archive, cotangents, kept].map((part) => part?.dispose()));
  }
}

async function startWayBack(run: Run, spans: readonly BlockSpan[], needs: DenseNeeds): Promise<WayBack> {
  const { job, batches } = run;
  const chosen = chooseWayBack(batches, needs);
  const windowCount = chosen.reduce((sum, { batchSize }) => sum + batchSize, 0);
  return { batches: chosen, archive: await job.createStates(windowCount, spans.length + 1) };
}

function softeningOf({ metric, seed }: ResolvedOptions): Softening | undefined {
  const { temperature }: Metric = METRICS[metric];
  return temperature === undefined ? undefined : { temperature, seed };
}

interface Looked {
  readonly needs: DenseNeeds;
  readonly seen: SeenForwards;
  readonly looks: readonly ModuleLook[];
}

function collect(run: Run, { needs, seen, looks }: Looked): DenseObservation {
  const sensitivity = new Float64Array(run.job.analysed.detected.layout.blockCount);
  const functional = new Map<PrunableModule, FunctionalModule>();
  const orders = new Map(seen.orders);
  for (const { module, found } of looks) {
    if (found.order) orders.set(module, found.order);
    if (found.affinity === undefined) continue;
    const contexts = seen.contexts.get(module);
    sensitivity[module.block]! += meanAffinity(found.affinity, contexts ?? oneContext(run));
    if (contexts === undefined || needs.grouping === undefined) continue;
    const { assignment, sharedGroup } = needs.grouping;
    const { contextCount } = contexts;
    const { affinity } = found;
    if (affinity.every((value) => value === 0)) {
      run.remarks.push(
        `block ${module.block} ffn: no neuron has affinity to any context, so that groups are by index; activations or gradients are zero on all calibration tokens`,
      );
    }
    const groups = groupNeurons({ affinity, contextCount, assignment, sharedGroup, random: run.random });
    functional.set(module, { contexts, groups, affinity });
  }
  // Without tokens nothing changes, by 0 / 0.
  const { blockChange } = seen;
  return { ...(run.batches.length > 0 && { blockChange }), sensitivity, functional, ...(needs.order && { orders }) };
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
