import { collectStatistics } from '../activations/collect-statistics.js';
import type { TokenContexts } from '../activations/measure-affinity.js';
import { type ChangeMeter, createChangeMeter } from '../activations/measure-change.js';
import { lookUnder, type StageMeter } from '../activations/stage-meter.js';
import { walkBackwards } from '../activations/walk-backwards.js';
import { type BlockSpan, blockSpans, type PrunableModule } from '../architecture/layout.js';
import type { Softening } from '../autodiff/cross-entropy.js';
import { type CompensationAdapter, EMPTY_STATISTICS, type StatisticsNeed } from '../compensation/adapter.js';
import { groupNeurons } from '../grouping/group-neurons.js';
import { copyModel } from '../onnx/edit-weights.js';
import type { ResolvedOptions } from '../options.js';
import type { Batch, BlockRunner, PassLook } from '../runtime/block-runner.js';
import type { HiddenStates } from '../runtime/hidden-states.js';
import {
  type DenseNeeds,
  type DenseObservation,
  type FunctionalModule,
  looksBackwards,
  type ModuleContexts,
} from './dense-observation.js';
import { type ContextSearch, searchContexts } from './find-contexts.js';
import { lookBackAt, type ModuleLook, oneContext, orderModule } from './look-back.js';
import type { RemovalOrderOfModule } from './order-units.js';
import type { Run } from './run.js';

/** Looks at the dense model once forwards and, for whatever hangs on the loss, once backwards. */
export async function observeDense(run: Run, needs: DenseNeeds): Promise<DenseObservation> {
  const { job, batches } = run;
  const { layout } = job.analysed.detected;
  const backwards = looksBackwards(needs);
  if (!backwards && !needs.blockChange && needs.order === undefined) return { functional: new Map() };
  const spans = blockSpans(layout);
  const model = copyModel(job.model);
  const runner = await run.startRunner(model, { isFixed: true });
  const archive = await job.createStates(job.windows.length, backwards ? spans.length + 1 : 1);
  const cotangents = await job.createStates(job.windows.length);
  try {
    const seen = await lookForwards(run, { runner, archive, spans, needs });
    if (!backwards) return collect(run, { needs, seen, looks: [] });
    const looks = needs.modules.map((module) =>
      lookBackAt(run, model, { module, needs, contexts: seen.contexts.get(module) }),
    );
    const inSpan = (span: BlockSpan) =>
      looks.filter(({ module }) => module.segment >= span.first && module.segment <= span.last);
    await run.timed('backward', () =>
      walkBackwards({
        engine: job.engine,
        model,
        analysed: job.analysed,
        batches,
        spans,
        archive,
        side: runner.side,
        cotangents,
        softened: softeningOf(job.options),
        metersOf: (span) => inSpan(span).flatMap(({ meters }) => meters),
        onSpan: async (span) => {
          for (const look of inSpan(span)) await look.finish();
        },
        onBatch: (detail) => run.tick(detail),
        signal: job.options.signal,
      }),
    );
    return collect(run, { needs, seen, looks });
  } finally {
    await Promise.all([runner.dispose(), archive.dispose(), cotangents.dispose()]);
  }
}

/**
 * Softer than the model itself, so that what it is sure of counts as well: at 1 tokens that it is sure of have next to no
 * gradient, and code, which is full of them, loses most (docs/auto.md).
 */
const DIVERGENCE_TEMPERATURE = 2;

function softeningOf({ metric, seed }: ResolvedOptions): Softening | undefined {
  return metric === 'divergence' ? { temperature: DIVERGENCE_TEMPERATURE, seed } : undefined;
}

interface Look {
  readonly runner: BlockRunner;
  readonly archive: HiddenStates;
  readonly spans: readonly BlockSpan[];
  readonly needs: DenseNeeds;
}

async function lookForwards(run: Run, { runner, archive, spans, needs }: Look) {
  const { job, batches } = run;
  const { layout, partition } = job.analysed.detected;
  const contexts = new Map<PrunableModule, ModuleContexts>();
  const orders = new Map<PrunableModule, RemovalOrderOfModule>();
  const changes: ChangeMeter[] = [];
  let searches: ContextSearch[] = [];
  const clusterSeen = () =>
    run.timed('contexts', async () => {
      for (const search of searches.filter(({ meter }) => meter.isComplete)) {
        run.job.options.signal?.throwIfAborted();
        contexts.set(search.module, search.finish());
      }
      searches = searches.filter(({ module }) => !contexts.has(module));
    });
  // The way back starts from every block's input; block change needs the last one alone.
  const place = (span: number, batch: number) => (looksBackwards(needs) ? span * batches.length : 0) + batch;
  const keep = (value: string, span: number): PassLook => ({
    fetches: [value],
    onBatch: (batch, values) => archive.put(place(span, batch.index), values[value]!),
  });
  await run.advance(runner, keep(partition.cuts[0]!, 0));
  const { type } = await archive.get(0);
  for (const [at, span] of spans.entries()) {
    for (let segment = span.first; segment <= span.last; segment += 1) {
      const modules = needs.modules.filter((module) => module.segment === segment);
      const meters: StageMeter[] = [];
      for (const module of needs.grouping === undefined ? [] : modules.filter(({ kind }) => kind === 'ffn')) {
        const search = await run.timed('contexts', () => searchContexts(run, runner, module));
        meters.push(search.meter);
        searches.push(search);
      }
      if (needs.order && needs.curvatures === undefined) {
        for (const [module, order] of await orderSegment(run, runner, { modules, adapter: needs.order }))
          orders.set(module, order);
      }
      if (segment === span.last) {
        const before = (batch: Batch) => archive.get(place(at, batch.index));
        const output = partition.cuts[span.last]!;
        const change = createChangeMeter({ index: at, output, channelCount: layout.hiddenSize, before, type });
        changes.push(change);
        meters.push(change);
      }
      const look = lookUnder(meters, segment === span.last ? keep(partition.cuts[segment]!, at + 1) : {});
      // A block's input must be at hand when the block runs, so one that is a single stage cannot wait together with the one before it.
      const isAwaited = segment === span.last && (at === spans.length - 1 || span.first === span.last);
      await (isAwaited ? run.advance(runner, look) : run.pass(runner, look));
      await clusterSeen();
    }
  }
  const tokenCount = batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const blockChange = new Float64Array(layout.blockCount);
  spans.forEach(({ block }, at) => {
    blockChange[block]! += changes[at]!.finish() / tokenCount;
  });
  return { contexts, blockChange, orders };
}

interface Ordering {
  readonly modules: readonly PrunableModule[];
  readonly adapter: CompensationAdapter;
}

/** Orders of the modules of the segment that the runner stands at. */
async function orderSegment(run: Run, runner: BlockRunner, { modules, adapter }: Ordering) {
  const { needs } = adapter;
  const targets = modules.map(({ output }) => ({
    linear: output,
    needs: needs as Exclude<StatisticsNeed, 'none'>,
    groups: [Int32Array.from({ length: output.inputCount }, (_, channel) => channel)],
  }));
  const measured =
    needs === 'none' || targets.length === 0
      ? []
      : await run.timed('measure', () => collectStatistics(runner, { targets }));
  const orders: [PrunableModule, RemovalOrderOfModule][] = [];
  for (const [at, module] of modules.entries()) {
    const statistics = measured[at]?.[0] ?? EMPTY_STATISTICS;
    orders.push([module, await orderModule(run, run.job.model, { module, adapter, curvature: undefined, statistics })]);
  }
  return orders;
}

interface Looked {
  readonly needs: DenseNeeds;
  readonly seen: Awaited<ReturnType<typeof lookForwards>>;
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
