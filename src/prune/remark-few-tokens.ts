import type { PruneJob, PruneOutcome } from './job.js';

/**
 * Tokens for each channel of the widest output projection below which methods that invert its Gram matrix fit the calibration rather than the
 * model: at 1 for each Gemma-3-270M lost more than by methods that only score (docs/methods.md).
 */
const MIN_TOKENS_PER_CHANNEL = 8;

/** Says so where a run solved for linear layers from too few tokens. */
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
