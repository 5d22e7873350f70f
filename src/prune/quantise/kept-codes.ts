import { readKept } from '../../platform/journal.js';
import type { PruneContext } from '../prune-context.js';
import type { ChosenCodes } from './choose-codes.js';
import type { TokenWeights } from './measure-token-weights.js';

/** Weights of tokens by the value that they weigh at: from the journal where an earlier run kept them. */
export async function keepingTokenWeights(
  { job: { journal } }: PruneContext,
  measure: () => Promise<ReadonlyMap<string, TokenWeights>>,
): Promise<ReadonlyMap<string, TokenWeights>> {
  const kept = await readKept<ReadonlyMap<string, TokenWeights>>(journal, 'token-weights');
  if (kept !== undefined) return kept;
  const measured = await measure();
  // A pass backwards went into them.
  await journal?.write('token-weights', [measured]);
  return measured;
}

/** Codes of a segment's weights, in their order: from the journal where an earlier run kept them. */
export async function keepingSegment(
  { job: { journal } }: PruneContext,
  segment: number,
  round: () => Promise<ChosenCodes[]>,
): Promise<readonly ChosenCodes[]> {
  const name = `codes-${segment}`;
  const kept = await readKept<readonly ChosenCodes[]>(journal, name);
  if (kept !== undefined) return kept;
  const rounded = await round();
  const byteLength = rounded.reduce((sum, { codes }) => sum + codes.codes.byteLength + codes.scales.byteLength, 0);
  if (journal?.isDue(byteLength)) await journal.write(name, [rounded]);
  return rounded;
}
