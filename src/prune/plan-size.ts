import { fitCostModel } from './cost-model.js';
import type { RoundingCosts } from './estimate-rounding.js';
import {
  type Bits,
  type Mixture,
  type SizedForm,
  type SizedWeight,
  type SizeProblem,
  sumOfRounding,
} from './mixtures.js';
import { bestMixture, type FittedMixture, fitExactly, type SizeSearch, waysToFit } from './search-size.js';

/** A way to meet a size, by what statistics estimate. */
export interface PlannedMixture extends FittedMixture {
  readonly kind: 'bits' | 'plain' | 'pruned' | 'mixture';
}

/**
 * Prices linear layers by estimates. Statistics say nothing of tables: in fewer than their most bits these are taken to cost together what all other
 * linear layers do in as many, as they do in SmolLM2 and the bundled model within a factor of two.
 */
export function estimateRoundingCosts(problem: SizeProblem, costs: RoundingCosts): SizeProblem {
  const tableCount = problem.weights.filter(({ isTable }) => isTable).length;
  const ofAll = (bits: Bits | undefined) =>
    [...costs.values()].reduce((sum, own) => sum + ((bits && own.get(bits)) ?? 0), 0);
  const costOf = ({ name, isTable, forms }: SizedWeight, { bits }: SizedForm): number => {
    if (isTable) return bits === forms[0]!.bits ? 0 : ofAll(bits) / tableCount;
    return (bits && costs.get(name)?.get(bits)) ?? 0;
  };
  return {
    ...problem,
    weights: problem.weights.map((weight) => ({
      ...weight,
      forms: weight.forms.map((form) => ({ ...form, cost: costOf(weight, form) })),
    })),
  };
}

/** Estimate of what a mixture costs, in nats per token. */
export const estimateOf = ({ estimate }: Mixture): number => estimate.pruning + sumOfRounding(estimate);

/**
 * The best ways to meet a size only by estimates: of bits, of units in one number of bits, and of both. The best one comes first.
 * @returns none where nothing fits
 */
export async function planSize(
  { problem, bits, bytesOf }: Pick<SizeSearch, 'problem' | 'bits' | 'bytesOf'>,
  targetBytes: number,
): Promise<readonly PlannedMixture[]> {
  const ways = [
    ...waysToFit(problem, bits),
    { kind: 'mixture' as const, make: (aim: number) => bestMixture(problem, aim, fitCostModel([])) },
  ];
  const found: PlannedMixture[] = [];
  for (const { kind, make } of ways) {
    const fitted = await fitExactly({ bytesOf }, make, targetBytes);
    if (fitted !== undefined) found.push({ kind, ...fitted });
  }
  found.sort((a, b) => estimateOf(a.mixture) - estimateOf(b.mixture));
  const keys = found.map(({ mixture: { bits: own, steps } }) => JSON.stringify([[...own].sort(), [...steps].sort()]));
  return found.filter((_, at) => keys.indexOf(keys[at]!) === at);
}
