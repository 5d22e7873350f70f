import { readCheckpoint } from '../../platform/journal.js';
import type { PruneContext } from '../prune-context.js';
import type { FeltTokens } from './measure-token-weights.js';

const NAME = 'token-weights';

/** Weights of tokens by the value that they weigh at: from the journal where an earlier run kept them. */
export async function keepingTokenWeights(
  { job: { journal } }: PruneContext,
  measure: () => Promise<FeltTokens>,
): Promise<FeltTokens> {
  const kept = await readCheckpoint<FeltTokens>(journal, NAME);
  if (kept !== undefined) return kept;
  const measured = await measure();
  const byteLength = [...measured.weights.values()]
    .flatMap(({ batches }) => [...batches.values()])
    .reduce((sum, batch) => sum + batch.byteLength, 0);
  if (journal?.shouldCheckpoint(byteLength, true)) await journal.write(NAME, [measured], true);
  return measured;
}
