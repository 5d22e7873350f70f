import { collectStatistics } from '../activations/collect-statistics.js';
import { type ChangeMeter, createChangeMeter } from '../activations/measure-change.js';
import { lookUnder, type StageMeter } from '../activations/stage-meter.js';
import type { BlockSpan, PrunableModule } from '../architecture/layout.js';
import { type CompensationAdapter, EMPTY_STATISTICS, type StatisticsNeed } from '../compensation/adapter.js';
import type { Batch, BlockRunner, PassLook } from '../runtime/block-runner.js';
import type { HiddenStates } from '../runtime/hidden-states.js';
import type { DenseNeeds, ModuleContexts } from './dense-observation.js';
import { orderModule } from './look-back.js';
import type { RemovalOrderOfModule } from './order-units.js';
import type { Run } from './run.js';
import { type ContextSearch, searchContexts } from './search-contexts.js';

/** Who walks where, and for what. */
export interface ForwardLook {
  /** Stands at the token ids. */
  readonly runner: BlockRunner;
  /** Gets the input of the block that comes next. */
  readonly inputs: HiddenStates;
  /** Gets every block's input, and the last one's output, where there is a way back. */
  readonly archive: HiddenStates | undefined;
  readonly spans: readonly BlockSpan[];
  readonly needs: DenseNeeds;
}

/** What was seen on the way forwards. */
export interface SeenForwards {
  readonly contexts: ReadonlyMap<PrunableModule, ModuleContexts>;
  /** FC by block. */
  readonly blockChange: Float64Array;
  /** Of methods whose orders need no gradient. */
  readonly orders: ReadonlyMap<PrunableModule, RemovalOrderOfModule>;
}

/** Goes through the dense model once. */
export async function lookForwards(
  run: Run,
  { runner, inputs, archive, spans, needs }: ForwardLook,
): Promise<SeenForwards> {
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
  const keep = (value: string, span: number): PassLook => ({
    fetches: [value],
    async onBatch({ index }, values) {
      await inputs.put(index, values[value]!);
      await archive?.put(span * batches.length + index, values[value]!);
    },
  });
  await run.advance(runner, keep(partition.cuts[0]!, 0));
  const { type } = batches.length > 0 ? await inputs.get(0) : { type: 'float32' as const };
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
        const before = (batch: Batch) => inputs.get(batch.index);
        const output = partition.cuts[span.last]!;
        const change = createChangeMeter({ index: at, output, channelCount: layout.hiddenSize, before, type });
        changes.push(change);
        meters.push(change);
      }
      const look = lookUnder(meters, segment === span.last ? keep(partition.cuts[segment]!, at + 1) : {});
      // The next block's input must be at hand when that runs to its end: it may not be a single stage that waits together with this one.
      const next = spans[at + 1];
      const isAwaited = segment === span.last && (next === undefined || next.first === next.last);
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
