import { createStatisticsMeter } from '../../activations/collect-statistics.js';
import { createChangeMeter } from '../../activations/measure-change.js';
import { readUnder, type StageMeter } from '../../activations/stage-meter.js';
import type { BlockSpan, PrunableModule } from '../../architecture/layout.js';
import { type ChannelStatistics, type CompensationAdapter, EMPTY_STATISTICS } from '../../compensation/adapter.js';
import { type BlockRunner, countTokens, type StageReads } from '../../runtime/block-runner.js';
import type { TensorStore } from '../../runtime/tensor-store.js';
import type { PruneContext } from '../prune-context.js';
import type { InterruptedBackward } from './backward-checkpoint.js';
import { type ForwardMeasures, type ModuleContexts, orderOf } from './dense-measures.js';
import type { DensePasses } from './dense-passes.js';
import { orderModule } from './measure-backwards.js';
import type { ModuleRemovalOrder } from './order-units.js';
import { searchContexts } from './search-contexts.js';
import type { StatisticsStore } from './statistics-store.js';

/**
 * Runs the calibration tokens through the dense model once, for the needs: contexts, block change, and orders that need no
 * gradient. @see FANG (arXiv 2512.23014), section 3.1
 * @param earlier An interrupted backward pass: the blocks that it has finished are not run again.
 */
export async function measureForwards(
  context: PruneContext,
  passes: DensePasses,
  earlier?: InterruptedBackward,
): Promise<ForwardMeasures> {
  const { job } = context;
  // Input of the next block.
  const inputs = await job.createStore(job.windows.length);
  try {
    const measured = await runForwardPass(context, { ...passes, inputs, end: earlier && earlier.left + SHARED_SPANS });
    return earlier?.forwards ?? measured;
  } finally {
    await inputs.dispose();
  }
}

/** Blocks after the last one that are run too: a session may have stages of several blocks, which affects rounding. */
const SHARED_SPANS = 2;

interface ForwardRun extends DensePasses {
  readonly inputs: TensorStore;
  /** Number of spans to run; default all. */
  readonly end: number | undefined;
}

async function runForwardPass(
  context: PruneContext,
  { runner, inputs, backwardPass, statisticsStore, spans, needs, end }: ForwardRun,
): Promise<ForwardMeasures> {
  const { batches } = context;
  const { layout, partition } = context.job.analysed.detected;
  const results = {
    contexts: new Map<PrunableModule, ModuleContexts>(),
    blockChange: new Float64Array(layout.blockCount),
    orders: new Map<PrunableModule, ModuleRemovalOrder>(),
  };
  const storeInput = (value: string, span: number): StageReads => ({
    fetches: [value],
    async onBatch(batch, values) {
      await inputs.put(batch.index, values[value]!);
      const position = backwardPass?.batches.indexOf(batch) ?? -1;
      if (position >= 0)
        await backwardPass!.archive.put(span * backwardPass!.batches.length + position, values[value]!);
    },
  });
  const measurements = createMeasurements(batches.length, context.job.options.signal);
  // The embedding comes first.
  context.begin('measure', (spans.slice(0, end).at(-1)?.last ?? 0) + 1, batches.length);
  await context.advance(runner, storeInput(partition.cuts[0]!, 0));
  for (const [at, span] of spans.slice(0, end).entries()) {
    for (let segment = span.first; segment <= span.last; segment += 1) {
      context.startPart(segment);
      const here: ModuleMeasurement[] = [];
      for (const module of needs.modules.filter((candidate) => candidate.segment === segment)) {
        const { grouping } = needs;
        if (grouping !== undefined && module.kind === 'ffn')
          here.push(await findContexts(context, runner, { module, grouping }, results));
        const adapter = orderOf(module, needs);
        if (adapter !== undefined)
          here.push(...(await findOrder(context, { module, adapter, statisticsStore }, results)));
      }
      const output = partition.cuts[segment]!;
      const isLast = segment === span.last;
      if (isLast) here.push(await findChange(context, { at, span, inputs }, results));
      const reads = measurements.readsFor(here, isLast ? storeInput(output, at + 1) : {});
      // The next block's measurements read this output: if that block is one stage, it must not be joined with this one.
      const next = spans[at + 1];
      const runsNow = isLast && (next === undefined || next.first === next.last);
      await (runsNow ? context.advance(runner, reads) : context.pass(runner, reads));
      await measurements.finishDone();
    }
  }
  return results;
}

/** Results of the forward pass, which measurements add to. */
interface ForwardResults extends ForwardMeasures {
  readonly contexts: Map<PrunableModule, ModuleContexts>;
  readonly orders: Map<PrunableModule, ModuleRemovalOrder>;
}

async function findContexts(
  context: PruneContext,
  runner: BlockRunner,
  given: Parameters<typeof searchContexts>[2],
  { contexts }: ForwardResults,
): Promise<ModuleMeasurement> {
  const search = await context.timed('contexts', () => searchContexts(context, runner, given));
  const finish = async () => {
    contexts.set(given.module, search.finish());
  };
  return { meter: search.meter, finish: () => context.timed('contexts', finish) };
}

interface Ordering {
  readonly module: PrunableModule;
  readonly adapter: CompensationAdapter;
  readonly statisticsStore: StatisticsStore | undefined;
}

/** Measures the statistics for the order of a module's units, and computes the order unless it needs the backward pass. */
async function findOrder(
  context: PruneContext,
  { module, adapter, statisticsStore }: Ordering,
  { orders }: ForwardResults,
): Promise<ModuleMeasurement[]> {
  const useStatistics = async (statistics: ChannelStatistics) => {
    if (statisticsStore !== undefined) return statisticsStore.put(module, statistics);
    orders.set(
      module,
      await orderModule(context, context.job.model, { module, adapter, curvature: undefined, statistics }),
    );
  };
  const { outputCount } = module.output;
  if (module.kind === 'experts') {
    // Experts are ordered later. The moments of their outputs are for estimates by noise, where no gradient reaches.
    if (statisticsStore === undefined) return [];
    const linear = { ...module.output, input: module.output.result, inputCount: outputCount };
    const all = [Int32Array.from({ length: outputCount }, (_, channel) => channel)];
    const meter = createStatisticsMeter({ linear, needs: 'moments', groups: all }, `order/${module.index}`);
    return [{ meter, finish: () => useStatistics(meter.finish()[0]!) }];
  }
  const { needs } = adapter;
  if (needs === 'none') {
    await useStatistics(EMPTY_STATISTICS);
    return [];
  }
  const groups = [Int32Array.from({ length: module.output.inputCount }, (_, channel) => channel)];
  const meter = createStatisticsMeter({ linear: module.output, needs, groups }, `order/${module.index}`);
  return [{ meter, finish: () => useStatistics(meter.finish()[0]!) }];
}

/** One remark is enough: mostly the same tokens are zero in all blocks. */
const ZERO_TOKENS = /^\d+ of \d+ calibration tokens have a hidden state of zeros/;

interface ChangeCase {
  readonly at: number;
  readonly span: BlockSpan;
  readonly inputs: TensorStore;
}

/** Measures the block change of a span over its output. */
async function findChange(
  context: PruneContext,
  { at, span, inputs }: ChangeCase,
  { blockChange }: ForwardResults,
): Promise<ModuleMeasurement> {
  const { batches } = context;
  const { layout, partition } = context.job.analysed.detected;
  const { type } = batches.length > 0 ? await inputs.get(0) : { type: 'float32' as const };
  const meter = createChangeMeter({
    index: at,
    output: partition.cuts[span.last]!,
    channelCount: layout.hiddenSize,
    before: (batch) => inputs.get(batch.index),
    type,
  });
  const tokenCount = countTokens(batches);
  const finish = () => {
    const { sum, rowCount, zeroCount } = meter.finish();
    blockChange[span.block]! += sum / rowCount;
    if (zeroCount === 0) return;
    if (context.remarks.some((remark) => ZERO_TOKENS.test(remark))) return;
    const found = `${Math.ceil((zeroCount * tokenCount) / rowCount)} of ${tokenCount} calibration tokens have a hidden state of zeros before or after block ${span.block}`;
    context.remarks.push(
      `${found}, such as tokens with an untrained embedding; they count as unchanged, and get no gradient`,
    );
  };
  return { meter, finish };
}

/** A meter, and an action with its results. */
interface ModuleMeasurement {
  readonly meter: StageMeter;
  /** Called when the meter has read all batches. */
  finish(): void | Promise<void>;
}

/** Tracks measurements of stages, which may run later than `BlockRunner.pass` returns. */
interface Measurements {
  /** Reads of a stage for measurements, and for another reader. */
  readsFor(measurements: readonly ModuleMeasurement[], others?: StageReads): StageReads;
  /** Finishes those whose meters have read all batches. */
  finishDone(): Promise<void>;
}

function createMeasurements(batchCount: number, signal: AbortSignal | undefined): Measurements {
  let open: { missing: number; readonly measurements: readonly ModuleMeasurement[] }[] = [];
  return {
    readsFor(measurements, others) {
      const entry = { missing: batchCount, measurements };
      open.push(entry);
      const reads = readUnder(
        measurements.map(({ meter }) => meter),
        others,
      );
      return {
        ...reads,
        async onBatch(batch, values) {
          await reads.onBatch?.(batch, values);
          entry.missing -= 1;
        },
      };
    },
    async finishDone() {
      const done = open.filter(({ missing }) => missing === 0);
      open = open.filter(({ missing }) => missing > 0);
      for (const measurement of done.flatMap(({ measurements }) => measurements)) {
        signal?.throwIfAborted();
        await measurement.finish();
      }
    },
  };
}
