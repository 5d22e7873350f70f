import { OptionError } from '../errors.js';
import { findNonFinite } from '../linalg/matrix-block.js';

/** A module whose units compete with all others. */
export interface StandardisedEntry {
  /** Importance of each unit, larger is kept. */
  readonly scores: ArrayLike<number>;
  /** Prunable parameters that leave with one unit. */
  readonly parametersPerUnit: number;
  /** Units that stay in any case. Default 1. */
  readonly minimumKept?: number | undefined;
}

/**
 * FLAP's global threshold (AL-AM): scores are standardised within each module, then the lowest of all modules leave
 * until the parameters removed come nearest to the budget. A head counts for its parameters, so many neurons weigh as
 * much as one head. Of equal scores the earlier module, then the lower index, leaves first.
 *
 * @param sparsity Fraction of the entries' unit parameters to remove, in [0, 1).
 * @returns Units to remove per entry: its lowest scores.
 * @throws OptionError when the floors leave too little to remove, or a score is not finite.
 * @see FLAP (An et al., AAAI 2024, arXiv 2312.11983), section 3.3
 */
export function allocateStandardised(entries: readonly StandardisedEntry[], sparsity: number): number[] {
  if (!(sparsity >= 0 && sparsity < 1)) throw new OptionError(`sparsity is ${sparsity}; expected a number in [0, 1)`);
  const total = entries.reduce((sum, { scores, parametersPerUnit }) => sum + scores.length * parametersPerUnit, 0);
  const budget = sparsity * total;
  const counts = entries.map(() => 0);
  let removed = 0;
  const take = ({ entry, parameters }: Candidate) => {
    counts[entry]!++;
    removed += parameters;
  };
  const passedOver: Candidate[] = [];
  for (const candidate of lowestFirst(entries)) {
    // A head that no longer fits leaves room for neurons after it, which come nearer to the budget.
    if (candidate.parameters <= budget - removed + 1e-9 * total) take(candidate);
    else passedOver.push(candidate);
  }
  const last = passedOver.find(({ parameters }) => parameters <= 2 * (budget - removed));
  if (last !== undefined) take(last);
  const coarsest = Math.max(0, ...entries.map(({ parametersPerUnit }) => parametersPerUnit));
  if (budget - removed > coarsest) {
    throw new OptionError(
      `sparsity ${sparsity} asks for ${Math.round(budget)} of ${total} parameters, but the units that must stay leave only ` +
        `${removed} to remove: ${Math.ceil(budget - removed)} are missing; lower the sparsity`,
    );
  }
  return counts;
}

interface Candidate {
  readonly entry: number;
  readonly parameters: number;
}

/** Removable units of all entries by rising standardised score. */
function lowestFirst(entries: readonly StandardisedEntry[]): Candidate[] {
  const candidates = entries.flatMap(({ scores, parametersPerUnit, minimumKept = 1 }, entry) => {
    const sorted = standardise(scores, entry).sort();
    const removable = sorted.subarray(0, Math.max(0, sorted.length - minimumKept));
    return Array.from(removable, (score) => ({ entry, score, parameters: parametersPerUnit }));
  });
  return candidates.sort((a, b) => a.score - b.score || a.entry - b.entry);
}

/** `(x - mean) / standard deviation`; all equal gives zeros. */
function standardise(scores: ArrayLike<number>, entry: number): Float64Array {
  const values = Float64Array.from(scores);
  const bad = findNonFinite(values);
  if (bad >= 0)
    throw new OptionError(`the score of unit ${bad} in module ${entry} is ${values[bad]}; scores must be finite`);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const deviation = Math.sqrt(squares / Math.max(1, values.length - 1));
  return values.map((value) => (deviation > 0 ? (value - mean) / deviation : 0));
}
