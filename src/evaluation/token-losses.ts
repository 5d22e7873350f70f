import { NumericalError } from '../errors.js';
import type { JobControl } from '../progress.js';
import type { LanguageModel } from './language-model.js';

/** Windows that run together: logits of a window are large. */
const BATCH_SIZE = 1;

/**
 * Scores every token of some windows but the first of each: -ln p(token | those before it in the window), in nats.
 *
 * @param windows Of equal length, at least 2.
 * @returns `[windows, length - 1]` row-major.
 * @throws NumericalError when the model's logits are not numbers; EngineError.
 */
export async function measureTokenLosses(
  model: Pick<LanguageModel, 'score'>,
  windows: readonly Int32Array[],
  { signal, onProgress }: JobControl = {},
): Promise<Float32Array> {
  const perWindow = (windows[0]?.length ?? 1) - 1;
  const losses = new Float32Array(windows.length * perWindow);
  for (let start = 0; start < windows.length; start += BATCH_SIZE) {
    signal?.throwIfAborted();
    const scores = await model.score(windows.slice(start, start + BATCH_SIZE), 1);
    const bad = scores.findIndex((score) => !Number.isFinite(score));
    if (bad >= 0) {
      const window = start + Math.floor(bad / perWindow);
      throw new NumericalError(
        `the model's logits are not finite in window ${window}; check its weights, or run it in float32`,
      );
    }
    losses.set(scores, start * perWindow);
    onProgress?.({ stage: 'losses', done: Math.min(start + BATCH_SIZE, windows.length), total: windows.length });
  }
  return losses;
}
