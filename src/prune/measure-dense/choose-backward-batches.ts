import type { Batch } from '../../runtime/block-runner.js';
import { everyNth } from '../every-nth.js';
import type { DenseNeeds } from './dense-measures.js';

/**
 * Tokens that a metric's curvature is averaged over: so many at least, and so many for each of its rows. Half of them
 * again cost up to a twentieth of what pruning leaves (docs/research/auto.md).
 */
const CURVATURE_TOKENS = { least: 16384, perOutput: 8 };

/** Needs that decide how many tokens the backward pass takes. */
export interface BackwardSample {
  /** Affinities or sensitivities are wanted. */
  readonly allBackwards: boolean;
  /** Outputs of each module. */
  readonly outputCounts: readonly number[];
}

/**
 * Batches that go back through the model: one of every n where nothing but curvature is wanted, else all, for affinities are
 * means over the tokens of single contexts.
 */
export function chooseBackwardBatches(
  batches: readonly Batch[],
  needs: Pick<DenseNeeds, 'grouping' | 'sensitivity' | 'modules'>,
): Batch[] {
  const tokenCount = batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const outputCounts = needs.modules.map(({ output }) => output.outputCount);
  return everyNth(batches, strideOf(tokenCount, { allBackwards: needsAllTokens(needs), outputCounts }));
}

/** Whether something is measured that is a mean over the tokens of single contexts. */
export const needsAllTokens = ({ grouping, sensitivity }: Pick<DenseNeeds, 'grouping' | 'sensitivity'>): boolean =>
  grouping !== undefined || sensitivity;

/** Tokens that the backward pass takes, roughly. */
export const countBackwardTokens = (tokenCount: number, sample: BackwardSample): number =>
  tokenCount / strideOf(tokenCount, sample);

function strideOf(tokenCount: number, { allBackwards, outputCounts }: BackwardSample): number {
  const wanted = Math.max(CURVATURE_TOKENS.least, CURVATURE_TOKENS.perOutput * Math.max(0, ...outputCounts));
  return allBackwards ? 1 : Math.max(1, Math.floor(tokenCount / wanted));
}
