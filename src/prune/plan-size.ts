import { sum } from '../linalg/sum.js';
import { distributeCost, fitCostModel } from './cost-model.js';
import type { RoundingCosts } from './estimate-rounding.js';
import {
  costInBlocks,
  type Mixture,
  type SizedForm,
  type SizedWeight,
  type SizeProblem,
  sumOfRounding,
} from './mixtures.js';
import { bestMixture, type FittedMixture, fitExactly, fitStrategies, keyOf, type SizeSearch } from './search-size.js';

/** A mixture that meets a size, by estimates from statistics. */
export interface PlannedMixture extends FittedMixture {
  readonly kind: 'bits' | 'plain' | 'pruned' | 'mixture';
}

/**
 * Sets the costs of weights to estimates. Statistics do not cover tables: with fewer than their most bits, all tables together
 * are assumed to cost `TABLE_SHARE` of all linear layers in as many bits.
 */
export function estimateRoundingCosts(problem: SizeProblem, costs: RoundingCosts): SizeProblem {
  const tableCount = problem.weights.filter(({ isTable }) => isTable).length;
  const allBits = new Set([...costs.values()].flatMap((own) => [...own.keys()]));
  const costsIn = new Map(
    [...allBits].map((bits) => {
      const estimates = new Map([...costs].map(([name, own]) => [name, own.get(bits) ?? 0]));
      const total = sum(estimates.values());
      return [bits, { total, ofLayers: distributeCost(total, estimates) }] as const;
    }),
  );
  const costOf = (weight: SizedWeight, form: SizedForm): number => {
    const [most] = weight.forms;
    const bits = form.grid?.bits;
    if (weight.isTable && bits === most!.grid?.bits) return 0;
    const known = bits && costsIn.get(bits);
    if (known === undefined) return 0;
    const own = weight.isTable ? (TABLE_SHARE * known.total) / tableCount : (known.ofLayers.get(weight.name) ?? 0);
    return costInBlocks(own, form, weight);
  };
  return {
    ...problem,
    weights: problem.weights.map((weight) => ({
      ...weight,
      forms: weight.forms.map((form) => ({ ...form, cost: costOf(weight, form) })),
    })),
  };
}

/** SmolLM2-135M and the bundled model have 0.4 and 0.7, with calibrated rounding. */
const TABLE_SHARE = 0.5;

/** Estimated cost of a mixture, in nats per token. */
const estimateOf = ({ estimate }: Mixture): number => estimate.pruning + sumOfRounding(estimate);

/**
 * The best mixtures of a size by estimates: fewer bits only, fewer units with one number of bits, and both; best first.
 * @returns Empty if nothing fits.
 */
export async function planSize(
  { problem, bits, bytesOf }: Pick<SizeSearch, 'problem' | 'bits' | 'bytesOf'>,
  targetBytes: number,
): Promise<readonly PlannedMixture[]> {
  const strategies = [
    ...fitStrategies(problem, bits),
    { kind: 'mixture' as const, make: (limit: number) => bestMixture(problem, limit, fitCostModel([])) },
  ];
  const found: PlannedMixture[] = [];
  for (const { kind, make } of strategies) {
    const fitted = await fitExactly({ bytesOf }, make, targetBytes);
    if (fitted !== undefined) found.push({ kind, ...fitted });
  }
  found.sort((a, b) => estimateOf(a.mixture) - estimateOf(b.mixture));
  const keys = found.map(({ mixture }) => keyOf(mixture));
  return found.filter((_, at) => keys.indexOf(keys[at]!) === at);
}
