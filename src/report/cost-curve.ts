import type { CostCurve } from './report-schema.js';

/** Enough points for a smooth curve. */
const POINT_COUNT = 24;

/** Cumulative cost at evenly spaced fractions of removed units. @param costs In the order of removal. */
export function summariseCosts(costs: ArrayLike<number>): CostCurve {
  const totals = [0];
  for (let step = 0; step < costs.length; step++) totals.push(totals[step]! + costs[step]!);
  const count = Math.min(POINT_COUNT, costs.length);
  const steps = Array.from({ length: count + 1 }, (_, at) => Math.round((at * costs.length) / Math.max(1, count)));
  return {
    removed: steps.map((step) => rounded(step / Math.max(1, costs.length))),
    cost: steps.map((step) => rounded(totals[step]!)),
  };
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
