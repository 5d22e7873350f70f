import type { Batch } from '../../runtime/block-runner.js';
import { everyNth } from '../every-nth.js';
import type { DenseNeeds } from './dense-measures.js';

/**
 * Tokens that a metric's curvature is averaged over: so many at least, and so many for each of its rows. Half of them
 * again cost up to a twentieth of what pruning leaves (docs/research/auto.md).
 */
const CURVATURE_TOKENS = { least: 16384, perOutput: 8 };

/**
 * Batches that go back through the model: one of every n where nothing but curvature is wanted, else all, for affinities are
 * means over the tokens of single contexts.
 */
export function chooseBackwardBatches(
  batches: readonly Batch[],
  { grouping, sensitivity, modules }: DenseNeeds,
): Batch[] {
  if (grouping !== undefined || sensitivity) return [...batches];
  const tokenCount = batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
  return everyNth(batches, strideOf(tokenCount, modules));
}

/** Tokens that go back where nothing but curvature is wanted, roughly. */
export const countCurvatureTokens = (tokenCount: number, modules: DenseNeeds['modules']): number =>
  tokenCount / strideOf(tokenCount, modules);

function strideOf(tokenCount: number, modules: DenseNeeds['modules']): number {
  const outputs = Math.max(0, ...modules.map(({ output }) => output.outputCount));
  const wanted = Math.max(CURVATURE_TOKENS.least, CURVATURE_TOKENS.perOutput * outputs);
  return Math.max(1, Math.floor(tokenCount / wanted));
}
