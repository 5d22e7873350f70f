import { type Batch, countTokens } from '../../runtime/block-runner.js';
import { everyNth } from '../every-nth.js';
import type { DenseNeeds } from './dense-measures.js';

/**
 * Tokens that a metric's curvature is averaged over: a minimum, and a number for each of its rows. Half as many lost up to a
 * twentieth of the accuracy after pruning (docs/research/auto.md).
 */
const CURVATURE_TOKENS = { least: 16384, perOutput: 8 };

/** Needs that decide how many tokens the backward pass reads. */
export interface BackwardSample {
  /** Whether affinities or sensitivities are measured, which read all tokens. */
  readonly allBackwards: boolean;
  /** Outputs of each module. */
  readonly outputCounts: readonly number[];
}

/**
 * Batches of the backward pass: one of every n if only curvature is measured; all for affinities, which are means over the
 * tokens of single contexts.
 */
export function chooseBackwardBatches(
  batches: readonly Batch[],
  needs: Pick<DenseNeeds, 'grouping' | 'sensitivity' | 'modules'>,
): Batch[] {
  const tokenCount = countTokens(batches);
  const outputCounts = needs.modules.map(({ output }) => output.outputCount);
  return everyNth(batches, strideOf(tokenCount, { allBackwards: needsAllTokens(needs), outputCounts }));
}

/** Whether the backward pass reads all tokens. */
export const needsAllTokens = ({ grouping, sensitivity }: Pick<DenseNeeds, 'grouping' | 'sensitivity'>): boolean =>
  grouping !== undefined || sensitivity;

/** Approximate number of tokens of the backward pass. */
export const countBackwardTokens = (tokenCount: number, sample: BackwardSample): number =>
  tokenCount / strideOf(tokenCount, sample);

function strideOf(tokenCount: number, { allBackwards, outputCounts }: BackwardSample): number {
  const wanted = Math.max(CURVATURE_TOKENS.least, CURVATURE_TOKENS.perOutput * Math.max(0, ...outputCounts));
  return allBackwards ? 1 : Math.max(1, Math.floor(tokenCount / wanted));
}
