import { NumericalError } from '../errors.js';
import type { JobControl } from '../progress.js';
import type { LanguageModel } from './language-model.js';

/**
 * Scores all tokens of windows except each window's first: -ln p(token | the tokens before it in the window), in nats.
 * Windows run one by one, since their logits are large.
 *
 * @param windows Of equal length, at least 2.
 * @returns `[windows, length - 1]` row-major.
 * @throws NumericalError when the model's logits are not finite; EngineError.
 */
export async function measureTokenLosses(
  model: Pick<LanguageModel, 'score'>,
  windows: readonly Int32Array[],
  { signal, onProgress }: JobControl = {},
): Promise<Float32Array> {
  const perWindow = (windows[0]?.length ?? 1) - 1;
  const losses = new Float32Array(windows.length * perWindow);
  for (const [at, window] of windows.entries()) {
    signal?.throwIfAborted();
    const scores = await model.score([window], 1);
    if (!scores.every(Number.isFinite)) {
      throw new NumericalError(
        `the model's logits are not finite in window ${at}; check its weights, or run it in float32`,
      );
    }
    losses.set(scores, at * perWindow);
    onProgress?.({ stage: 'losses', done: at + 1, total: windows.length });
  }
  return losses;
}
