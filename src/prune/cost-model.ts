import { sum } from '../linalg/sum.js';
import { type CalibrationPoint, fitPowerLaw } from './fit-power-law.js';
import type { DraftCost } from './measure-draft.js';
import { type Bits, type CostSlopes, type Mixture, type MixtureCost, sumOfRounding } from './mixtures.js';

/** Predicts costs from estimates, corrected by measurements. */
export interface CostModel {
  predict(estimate: MixtureCost): DraftCost;
  /** Slopes of the rounding costs at an estimate: predicted nats per estimated nat. */
  slopesAt(estimate: MixtureCost): CostSlopes;
}

/** Half the relative width over which slopes are measured. */
const STEP = 0.05;

/** Smallest part of a mixture's estimate that its fewest bits must have for the mixture to show their cost. */
const MIN_PART = 0.1;

/**
 * Smallest divergence that rounding may add, as a fraction of that by pruning: less cannot be told from noise, and may be negative. What
 * pruning has lost already, rounding cannot lose again.
 */
const MIN_ADDED = 0.1;

/**
 * Fits a power law to removals, and one to each number of bits: the first layers in two bits cost far more than their part of
 * a model entirely in two bits, which predicts almost nothing. Numbers of bits are fitted in descending order, each to
 * mixtures without fewer bits, after subtracting the predicted cost of their layers in more bits.
 */
export function fitCostModel(
  measured: readonly { readonly mixture: Pick<Mixture, 'estimate'>; readonly cost: DraftCost }[],
): CostModel {
  const pruning = fitPowerLaw(
    measured.flatMap(({ mixture: { estimate }, cost }): CalibrationPoint[] =>
      estimate.pruning > 0 ? [{ estimate: estimate.pruning, measured: cost.pruning }] : [],
    ),
  );
  /** Law and smallest fitted estimate, by number of bits. */
  const fitted = new Map<Bits, { readonly law: (estimate: number) => number; readonly least: number }>();
  const quantising = (rounding: MixtureCost['rounding']) =>
    [...rounding].reduce((sum, [bits, own]) => sum + (fitted.get(bits)?.law(own) ?? own), 0);
  const allBits = new Set(measured.flatMap(({ mixture }) => [...mixture.estimate.rounding.keys()]));
  for (const bits of [...allBits].sort((a, b) => b - a)) {
    const points = measured.flatMap(({ mixture: { estimate }, cost }): CalibrationPoint[] => {
      const { rounding } = estimate;
      const part = rounding.get(bits) ?? 0;
      if (Math.min(...rounding.keys()) !== bits || part < MIN_PART * sumOfRounding(estimate)) return [];
      if (cost.quantising < MIN_ADDED * cost.pruning) return [];
      const more = new Map([...rounding].filter(([other]) => other > bits));
      return [{ estimate: part, measured: cost.quantising - quantising(more) }];
    });
    const least = Math.min(...points.map(({ estimate }) => estimate));
    if (points.length > 0) fitted.set(bits, { law: fitPowerLaw(points), least });
  }
  return {
    predict: (estimate) => ({ pruning: pruning(estimate.pruning), quantising: quantising(estimate.rounding) }),
    slopesAt: ({ rounding }) =>
      new Map(
        [...fitted].map(([bits, { law, least }]) => {
          const near = Math.max(rounding.get(bits) ?? 0, least);
          return [bits, (law(near * (1 + STEP)) - law(near * (1 - STEP))) / (2 * STEP * near)];
        }),
      ),
  };
}

/**
 * The cost of rounding a single linear layer is its estimate to this power: 0.84 on the bundled model, 0.88 on SmolLM2-135M before
 * coordinate descent, measured in 2 bits (`scripts/research/mixture-costs.ts --alone 2`). Without it, costs of the layers that mixtures round first are too low.
 */
const LAYER_EXPONENT = 0.87;

/**
 * Distributes the cost of rounding all linear layers over them.
 *
 * @param total In nats per token; below 0 it counts as 0.
 * @param estimates By the name of the weight, in any unit.
 * @returns Nats per token by the name of the weight.
 */
export function distributeCost(total: number, estimates: ReadonlyMap<string, number>): Map<string, number> {
  const parts = new Map([...estimates].map(([name, estimate]) => [name, Math.max(0, estimate) ** LAYER_EXPONENT]));
  const all = sum(parts.values());
  const scale = all > 0 ? Math.max(0, total) / all : 0;
  return new Map([...parts].map(([name, part]) => [name, part * scale]));
}
