import type { PrunableModule } from '../architecture/layout.js';
import type { HealingReport } from '../healing/heal-model.js';
import type { MultiplyTransposed } from '../linalg/multiply-transposed.js';
import { createRandom, type Random } from '../linalg/random.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import {
  type Batch,
  type BlockRunner,
  type BlockRunnerOptions,
  createBlockRunner,
  makeBatches,
  type StageReads,
} from '../runtime/block-runner.js';
import { createEngineMultiply } from '../runtime/engine-multiply.js';
import { remarkWindows } from './degenerate.js';
import type { PruneJob, StageTiming } from './job.js';

/** Position of a context in its random numbers and progress. */
export interface ContextPlace {
  /** Number of random numbers drawn. */
  readonly drawn: number;
  /** Ticks reported in the current stage. */
  readonly ticks: number;
}

/** One run's clock, progress, remarks and random numbers. */
export interface PruneContext {
  readonly job: PruneJob;
  readonly batches: readonly Batch[];
  readonly random: Random;
  readonly remarks: string[];
  /** Results of refinements besides weights. */
  readonly findings: { healing?: HealingReport };
  /** Large products of factorisations. */
  readonly multiply: MultiplyTransposed;
  /** Runs a step and adds its time to a stage, less that of steps within it. */
  timed<T>(stage: string, action: () => Promise<T>): Promise<T>;
  /** Begins a stage of the progress, with parts (such as segments) of a number of ticks each (such as batches). */
  begin(stage: string, parts: number, ticksPerPart: number | readonly number[]): void;
  /** Reports that the parts before this one, counted from 0, are done. */
  startPart(part: number): void;
  /** Reports ticks of the current part. Default: one. */
  tick(detail: string, count?: number): void;
  /** Reports that the stage is done. */
  finish(): void;
  /** Creates a runner at the token ids for a model, which may be edited while it runs. */
  startRunner(model: OnnxModel, options?: Pick<BlockRunnerOptions, 'isFixed'>): Promise<BlockRunner>;
  /** Runs one segment. */
  advance(runner: BlockRunner, reads?: StageReads): Promise<void>;
  /** Passes one segment, which runs later, in one graph with the next. */
  pass(runner: BlockRunner, reads?: StageReads): Promise<void>;
  /** Current position, for `restore`. */
  place(): ContextPlace;
  /** Brings a new context to the position of another. */
  restore(place: ContextPlace & { readonly remarks: readonly string[] }): void;
  timings(): StageTiming[];
  /** Frees the run's sessions. */
  dispose(): Promise<void>;
}

/**
 * Default number of tokens that run through a block together: enough to fill the processor's vectors, few enough that a
 * block's activations fit its caches.
 */
export const TOKENS_PER_BATCH = 1024;

/** Windows that run through a block together. */
export function batchSizeOf({
  windows,
  tokensPerBatch = TOKENS_PER_BATCH,
  analysed,
}: Pick<PruneJob, 'windows' | 'tokensPerBatch' | 'analysed'>): number {
  const windowLength = windows[0]?.length ?? 1;
  return Math.min(Math.max(1, Math.round(tokensPerBatch / windowLength)), analysed.rowLimit);
}

export function startContext(job: PruneJob): PruneContext {
  const { analysed, engine, options, windows } = job;
  const { layout, partition } = analysed.detected;
  const clock = new Map<string, number>();
  /** Milliseconds of steps that ended within the current one. */
  let nestedMs = 0;
  const batches = makeBatches(windows, batchSizeOf(job));
  /** Ticks before each part, followed by their total. */
  let progress = { stage: 'prune', starts: [0, 1], total: 1 };
  let done = 0;
  let partEnd = 1;
  const report = (detail?: string) => {
    const { stage, total } = progress;
    options.onProgress?.({ stage, done: Math.min(done, total), total, ...(detail !== undefined && { detail }) });
  };
  const ticking = ({ segment }: BlockRunner, reads: StageReads = {}): StageReads => {
    const detail = segment === 0 ? 'embedding' : segmentName(segment, layout.modules);
    return {
      ...reads,
      async onBatch(batch, values) {
        await reads.onBatch?.(batch, values);
        context.tick(detail);
      },
    };
  };
  const products = createEngineMultiply(engine);
  const draw = createRandom(options.seed);
  let drawn = 0;
  const random = () => {
    drawn += 1;
    return draw();
  };
  const context: PruneContext = {
    job,
    batches,
    random,
    multiply: products.multiply,
    remarks: remarkWindows(windows),
    findings: {},
    async timed(stage, action) {
      const start = performance.now();
      const before = nestedMs;
      nestedMs = 0;
      try {
        return await action();
      } finally {
        const took = performance.now() - start;
        clock.set(stage, (clock.get(stage) ?? 0) + took - nestedMs);
        nestedMs = before + took;
      }
    },
    begin(stage, parts, ticksPerPart) {
      const starts = [0];
      for (let part = 0; part < parts; part += 1)
        starts.push(starts[part]! + (typeof ticksPerPart === 'number' ? ticksPerPart : ticksPerPart[part]!));
      progress = { stage, starts, total: starts[parts]! };
      done = 0;
      partEnd = starts[1] ?? 0;
      options.onProgress?.({ stage, done: 0, total: 1 });
    },
    startPart(part) {
      done = progress.starts[part]!;
      partEnd = progress.starts[part + 1]!;
    },
    tick(detail, count = 1) {
      // A part's ticks are an estimate: further ones do not go beyond its end.
      done = Math.max(done, Math.min(done + count, partEnd));
      report(detail);
    },
    finish() {
      done = progress.total;
      report();
    },
    startRunner: async (model, { isFixed = false } = {}) =>
      createBlockRunner({
        isFixed,
        engine,
        model,
        cuts: partition.cuts,
        facts: analysed.facts,
        tokenInput: analysed.tokenInput,
        batches,
        states: await job.createStore(windows.length),
        packsWeights: job.firstWindow !== undefined,
        signal: options.signal,
      }),
    advance: (runner, reads) => context.timed('advance', () => runner.advance(ticking(runner, reads))),
    pass: (runner, reads) => context.timed('advance', () => runner.pass(ticking(runner, reads))),
    place: () => ({ drawn, ticks: done }),
    restore(place) {
      while (drawn < place.drawn) random();
      done = place.ticks;
      context.remarks.push(...place.remarks.filter((remark) => !context.remarks.includes(remark)));
    },
    timings: () => [...clock].map(([stage, ms]) => ({ stage, ms })),
    dispose: products.release,
  };
  return context;
}

/** Name of a segment by its modules: `block 3 ffn`. */
export function segmentName(segment: number, modules: readonly PrunableModule[]): string {
  const found = modules.filter((module) => module.segment === segment);
  const [first] = found;
  return first === undefined
    ? `segment ${segment}`
    : `block ${first.block} ${found.map(({ kind }) => kind).join(' + ')}`;
}
