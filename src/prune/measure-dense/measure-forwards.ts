import { createStatisticsMeter } from '../../activations/collect-statistics.js';
import { createChangeMeter } from '../../activations/measure-change.js';
import type { BlockSpan, PrunableModule } from '../../architecture/layout.js';
import { type ChannelStatistics, type CompensationAdapter, EMPTY_STATISTICS } from '../../compensation/adapter.js';
import type { BlockRunner, StageReads } from '../../runtime/block-runner.js';
import type { TensorStore } from '../../runtime/tensor-store.js';
import type { PruneContext } from '../prune-context.js';
import type { InterruptedBackward } from './backward-checkpoint.js';
import { type ForwardMeasures, type ModuleContexts, orderOf } from './dense-measures.js';
import type { DensePasses } from './dense-passes.js';
import { orderModule } from './measure-backwards.js';
import { createMeasurements, type ModuleMeasurement } from './measurements.js';
import type { ModuleRemovalOrder } from './order-units.js';
import { searchContexts } from './search-contexts.js';
import type { StatisticsStore } from './statistics-store.js';

/**
 * Sends the calibration tokens through the dense model once: contexts, block change, and orders that need no gradient, as
 * far as the needs go. @see FANG (arXiv 2512.23014), section 3.1
 * @param earlier where an earlier backward pass was cut off; it needs nothing of the blocks that it has passed
 */
export async function measureForwards(
  context: PruneContext,
  passes: DensePasses,
  earlier?: InterruptedBackward,
): Promise<ForwardMeasures> {
  const { job } = context;
  // Input of the block that comes next.
  const inputs = await job.createStore(job.windows.length);
  try {
    const seen = await runForwardPass(context, { ...passes, inputs, end: earlier && earlier.left + SHARED_SPANS });
    return earlier?.forwards ?? seen;
  } finally {
    await inputs.dispose();
  }
}

/** Stages of so many spans behind one may run in a session with it, which rounds as it does when it runs with them. */
const SHARED_SPANS = 2;

interface ForwardRun extends DensePasses {
  readonly inputs: TensorStore;
  /** Spans to go through; default all. */
  readonly end: number | undefined;
}

async function runForwardPass(
  context: PruneContext,
  { runner, inputs, backwardPass, statisticsStore, spans, needs, end }: ForwardRun,
): Promise<ForwardMeasures> {
  const { batches } = context;
  const { layout, partition } = context.job.analysed.detected;
  const seen = {
    contexts: new Map<PrunableModule, ModuleContexts>(),
    blockChange: new Float64Array(layout.blockCount),
    orders: new Map<PrunableModule, ModuleRemovalOrder>(),
  };
  const keep = (value: string, span: number): StageReads => ({
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
  await context.advance(runner, keep(partition.cuts[0]!, 0));
  for (const [at, span] of spans.slice(0, end).entries()) {
    for (let segment = span.first; segment <= span.last; segment += 1) {
      context.startPart(segment);
      const here: ModuleMeasurement[] = [];
      for (const module of needs.modules.filter((candidate) => candidate.segment === segment)) {
        const { grouping } = needs;
        if (grouping !== undefined && module.kind === 'ffn')
          here.push(await findContexts(context, runner, { module, grouping }, seen));
        const adapter = orderOf(module, needs);
        if (adapter !== undefined) here.push(...(await findOrder(context, { module, adapter, statisticsStore }, seen)));
      }
      const output = partition.cuts[segment]!;
      const isLast = segment === span.last;
      if (isLast) here.push(await findChange(context, { at, span, inputs }, seen));
      const passed = measurements.under(here, isLast ? keep(output, at + 1) : {});
      // The next block's input must be available when that runs to its end: it may not be a single stage that waits together with this one.
      const next = spans[at + 1];
      const isAwaited = isLast && (next === undefined || next.first === next.last);
      await (isAwaited ? context.advance(runner, passed) : context.pass(runner, passed));
      await measurements.finishDone();
    }
  }
  return seen;
}

/** The results while they fill. */
interface Filling extends ForwardMeasures {
  readonly contexts: Map<PrunableModule, ModuleContexts>;
  readonly orders: Map<PrunableModule, ModuleRemovalOrder>;
}

async function findContexts(
  context: PruneContext,
  runner: BlockRunner,
  given: Parameters<typeof searchContexts>[2],
  { contexts }: Filling,
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

/** Measures what the order of a module's units is found from, and finds it unless that waits for the backward pass. */
async function findOrder(
  context: PruneContext,
  { module, adapter, statisticsStore }: Ordering,
  { orders }: Filling,
): Promise<ModuleMeasurement[]> {
  const take = async (statistics: ChannelStatistics) => {
    if (statisticsStore !== undefined) return statisticsStore.put(module, statistics);
    orders.set(
      module,
      await orderModule(context, context.job.model, { module, adapter, curvature: undefined, statistics }),
    );
  };
  const { outputCount } = module.output;
  if (module.kind === 'experts') {
    // Their order comes later; where no gradient reaches, noise on their outputs estimates what an error there costs.
    if (statisticsStore === undefined) return [];
    const linear = { ...module.output, input: module.output.result, inputCount: outputCount };
    const all = [Int32Array.from({ length: outputCount }, (_, channel) => channel)];
    const meter = createStatisticsMeter({ linear, needs: 'moments', groups: all }, `order/${module.index}`);
    return [{ meter, finish: () => take(meter.finish()[0]!) }];
  }
  const { needs } = adapter;
  if (needs === 'none') {
    await take(EMPTY_STATISTICS);
    return [];
  }
  const groups = [Int32Array.from({ length: module.output.inputCount }, (_, channel) => channel)];
  const meter = createStatisticsMeter({ linear: module.output, needs, groups }, `order/${module.index}`);
  return [{ meter, finish: () => take(meter.finish()[0]!) }];
}

/** A remark about one block is enough: tokens of zeros are mostly those of all blocks. */
const ZERO_TOKENS = /^\d+ of \d+ calibration tokens have a hidden state of zeros/;

interface Crossing {
  readonly at: number;
  readonly span: BlockSpan;
  readonly inputs: TensorStore;
}

/** Measures the block change of a span over its output. */
async function findChange(
  context: PruneContext,
  { at, span, inputs }: Crossing,
  { blockChange }: Filling,
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
  const tokenCount = batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
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
