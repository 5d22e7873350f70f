import type { ContextSums } from '../activations/sum-by-context.js';
import { type Temperature, weightContexts } from '../grouping/weight-contexts.js';
import { WEIGHTING_VARIANTS, type WeightingName } from '../grouping/weighting-variants.js';
import type { Batch } from '../runtime/block-runner.js';

export interface GroupWeighting {
  readonly variant: WeightingName;
  readonly temperature: Temperature;
}

/** Contexts of the tokens, and sums of h over the tokens of each. */
export interface TokensByContext extends ContextSums {
  readonly contextCount: number;
  readonly windowLength: number;
}

/**
 * Weights of a batch's tokens for every function group, `[groups, tokens]`; group k is the one of context k.
 * @see FANG (arXiv 2512.23014), Eq. 6
 */
export function weightGroups(tokens: TokensByContext, weighting: GroupWeighting): (batch: Batch) => Float32Array {
  const { sumsOfWindow, contextOfToken, contextCount, windowLength } = tokens;
  const byWindow = WEIGHTING_VARIANTS[weighting.variant].scope === 'window';
  const all = sumsOfWindow.map((_, window) => window);
  const tables = byWindow
    ? all.map((window) => weightTable(tokens, [window], weighting))
    : [weightTable(tokens, all, weighting)];
  return (batch) => {
    const tokenCount = batch.tokens.length;
    const weights = new Float32Array(contextCount * tokenCount);
    for (let token = 0; token < tokenCount; token += 1) {
      const at = batch.firstToken + token;
      const table = tables[byWindow ? Math.floor(at / windowLength) : 0]!;
      for (let group = 0; group < contextCount; group += 1) {
        weights[group * tokenCount + token] = table[group * contextCount + contextOfToken[at]!]!;
      }
    }
    return weights;
  };
}

/** `alpha[group][context]` with centres over some windows. */
function weightTable(
  { sumsOfWindow, contextOfToken, contextCount, windowLength }: TokensByContext,
  windows: readonly number[],
  { variant, temperature }: GroupWeighting,
): Float64Array {
  const counts = new Int32Array(contextCount);
  const centers = new Float64Array(sumsOfWindow[0]?.length ?? 0);
  for (const window of windows) {
    for (let token = window * windowLength; token < (window + 1) * windowLength; token += 1)
      counts[contextOfToken[token]!]! += 1;
    sumsOfWindow[window]!.forEach((sum, at) => {
      centers[at]! += sum;
    });
  }
  const channelCount = centers.length / contextCount;
  for (let at = 0; at < centers.length; at += 1) centers[at]! /= Math.max(1, counts[Math.floor(at / channelCount)]!);
  return weightContexts({ centers, counts, variant, temperature });
}
