import { parametersOf } from '../allocation/allocation.js';
import { blockSpans } from '../architecture/layout.js';
import { createRandom } from '../linalg/random.js';
import type { PruneJob } from './job.js';
import { startContext, TOKENS_PER_BATCH } from './prune-context.js';

/** One batch warms up; the faster one of the others counts. */
const BATCHES = 3;
/** Dot products in JavaScript: enough for the optimising compiler, and fast. */
const DOT = { length: 4096, count: 4000, rounds: 3 };

/** Speed of a machine at the computations of pruning. */
export interface MeasuredSpeed {
  /** Multiply-adds per millisecond in the forward pass of a block. */
  readonly graphs: number;
  /** Multiply-adds per millisecond in JavaScript, as in factorisations. */
  readonly script: number;
}

/**
 * Measures a machine in about a second: a few batches of tokens through the first block of a model.
 * @param windowLength Tokens of each window.
 */
export async function measureSpeed(job: Omit<PruneJob, 'windows'>, windowLength: number): Promise<MeasuredSpeed> {
  const { layout } = job.analysed.detected;
  const windowCount = BATCHES * Math.max(1, Math.round(TOKENS_PER_BATCH / windowLength));
  const random = createRandom(0);
  const drawWindow = () =>
    Int32Array.from({ length: windowLength }, () => Math.floor(random() * (layout.vocabularySize ?? 1)));
  const windows = Array.from({ length: windowCount }, drawWindow);
  const context = startContext({ ...job, windows, options: { ...job.options, onProgress: undefined } });
  const runner = await context.startRunner(job.model, { isFixed: true });
  const [span] = blockSpans(layout);
  let ms = 0;
  try {
    // The embedding first.
    await runner.advance({});
    for (let segment = span!.first; segment <= span!.last; segment += 1) {
      job.options.signal?.throwIfAborted();
      const ends: number[] = [];
      await runner.advance({
        async onBatch() {
          ends.push(performance.now());
        },
      });
      ms += Math.min(...ends.slice(1).map((end, at) => end - ends[at]!));
    }
  } finally {
    await runner.dispose();
    await context.dispose();
  }
  const ofBlock = layout.modules.filter(({ block }) => block === span!.block);
  const parameters = parametersOf(ofBlock);
  const tokens = context.batches[0]!.tokens.length;
  return { graphs: (tokens * parameters) / Math.max(ms, 1e-3), script: measureScript() };
}

function measureScript(): number {
  const [left, right] = [new Float64Array(DOT.length).fill(1.5), new Float64Array(DOT.length).fill(0.5)];
  let best = Number.POSITIVE_INFINITY;
  let total = 0;
  for (let round = 0; round < DOT.rounds; round += 1) {
    const start = performance.now();
    for (let count = 0; count < DOT.count; count += 1) total += dot(left, right);
    best = Math.min(best, performance.now() - start);
  }
  // The sum is read, so that the compiler keeps it.
  return total > 0 ? (DOT.length * DOT.count) / Math.max(best, 1e-3) : 0;
}

function dot(left: Float64Array, right: Float64Array): number {
  let sum = 0;
  for (let at = 0; at < left.length; at += 1) sum += left[at]! * right[at]!;
  return sum;
}
