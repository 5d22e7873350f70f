import { createRandom } from '../linalg/random.js';
import type { PruneJob } from './job.js';
import { startContext, TOKENS_PER_BATCH } from './prune-context.js';

/** One batch warms up; of the others the faster one tells what the machine can do. */
const BATCHES = 3;

/**
 * Milliseconds that a token takes on its way forwards through the blocks of a model, as pruning sends tokens through them.
 * @param windowLength of the windows that are sent
 */
export async function measureSpeed(job: Omit<PruneJob, 'windows'>, windowLength: number): Promise<number> {
  const { layout } = job.analysed.detected;
  const windowCount = BATCHES * Math.max(1, Math.round(TOKENS_PER_BATCH / windowLength));
  const random = createRandom(0);
  const drawWindow = () =>
    Int32Array.from({ length: windowLength }, () => Math.floor(random() * (layout.vocabularySize ?? 1)));
  const windows = Array.from({ length: windowCount }, drawWindow);
  const context = startContext(
    { ...job, windows, options: { ...job.options, onProgress: undefined } },
    { all: 1, before: 0 },
  );
  const runner = await context.startRunner(job.model, { isFixed: true });
  let ms = 0;
  try {
    for (let stage = 0; stage <= layout.segments.length; stage += 1) {
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
  return ms / context.batches[0]!.tokens.length;
}
