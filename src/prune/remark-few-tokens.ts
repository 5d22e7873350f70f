import type { PruneJob, PruneOutcome } from './job.js';

/**
 * Fewest tokens per channel of the widest output projection for methods that invert its Gram matrix. With fewer they overfit the
 * calibration tokens: with 1, Gemma-3-270M lost more than by methods that only score (docs/methods.md).
 */
const MIN_TOKENS_PER_CHANNEL = 8;

/** Remark on a run that solved least squares on too few tokens. */
export function remarkFewTokens(
  { windows, options }: Pick<PruneJob, 'windows' | 'options'>,
  { modules }: Pick<PruneOutcome, 'modules'>,
): string[] {
  const tokenCount = windows.reduce((sum, { length }) => sum + length, 0);
  if (options.adapter.needs !== 'gram' || tokenCount === 0) return [];
  const widest = Math.max(0, ...modules.map(({ module }) => module.output.inputCount));
  if (tokenCount >= MIN_TOKENS_PER_CHANNEL * widest) return [];
  const windowCount = Math.ceil((MIN_TOKENS_PER_CHANNEL * widest) / windows[0]!.length);
  return [
    `calibrated on ${tokenCount} tokens, ${(tokenCount / widest).toFixed(1)} for each of the ${widest} inputs of the widest linear layer; ` +
      `${options.methodName} solves least squares over these inputs and needs at least ${MIN_TOKENS_PER_CHANNEL} for each: use ${windowCount} windows or more`,
  ];
}
