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

/** An estimate and its measured value. */
interface CalibrationPoint {
  readonly estimate: number;
  readonly measured: number;
}

/** Exponents outside this range are noise. */
const [MIN_EXPONENT, MAX_EXPONENT] = [0.5, 3];

/** Ratio of the largest to the smallest estimate that determines the exponent. */
const MIN_RATIO = 1.2;

/** Below this a divergence is noise, in nats per token. */
const MIN_DIVERGENCE = 1e-6;

/**
 * Fits `measured = scale estimate^exponent` by least squares of the logarithms, since costs of single changes do not add up.
 * One point gives only the scale; without points, estimates are returned unchanged.
 */
export function fitPowerLaw(points: readonly CalibrationPoint[]): (estimate: number) => number {
  const logs = points.flatMap(({ estimate, measured }) =>
    estimate > 0 ? [{ x: Math.log(estimate), y: Math.log(Math.max(measured, MIN_DIVERGENCE)) }] : [],
  );
  if (logs.length === 0) return (estimate) => estimate;
  const mean = (pick: (log: { x: number; y: number }) => number) =>
    logs.reduce((sum, log) => sum + pick(log), 0) / logs.length;
  const [x, y] = [mean((log) => log.x), mean((log) => log.y)];
  const spread = Math.max(...logs.map((log) => log.x)) - Math.min(...logs.map((log) => log.x));
  const slope =
    spread < Math.log(MIN_RATIO) ? 1 : mean((log) => (log.x - x) * (log.y - y)) / mean((log) => (log.x - x) ** 2);
  const exponent = Math.min(MAX_EXPONENT, Math.max(MIN_EXPONENT, slope));
  return (estimate) => (estimate > 0 ? Math.exp(y + exponent * (Math.log(estimate) - x)) : 0);
}
