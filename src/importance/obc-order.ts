import type { ImportanceProblem } from '../compensation/adapter.js';
import { invertFactorTransposed } from '../linalg/cholesky.js';
import { multiplySymmetric } from '../linalg/multiply-symmetric.js';
import { multiplyTransposed } from '../linalg/multiply-transposed.js';
import { pickColumns } from './column-sums.js';
import type { Hessian } from './hessian.js';
import { createShrinkingInverse } from './shrinking-inverse.js';
import { channelsOfUnits } from './units.js';

/** An order of removal with what each removal costs. */
export interface RemovalOrder {
  /** Importance by unit: the accumulated error at its removal, so that removing the lowest scores repeats the order. */
  readonly scores: Float64Array;
  /** Error that the n-th removal adds, never falling; they add up to the error of removing all. */
  readonly costs: Float64Array;
}

/**
 * Iterative OBC: removes the `step` cheapest units, repairs the weight, scores again, until none is left. The order is that
 * of rising scores. The cost of a step is the exact error of its units together, divided among them in proportion to their
 * single costs.
 *
 * Costs about `channelCount^2 (channelCount / 3 + out / 2)` products however large the step.
 *
 * @param step Units removed between two updates, at least 1.
 * @see OBC (Frantar & Alistarh, NeurIPS 2022, arXiv 2208.11580); structured form: ZipLM
 */
export async function orderByObc(problem: ImportanceProblem, hessian: Hessian, step: number): Promise<RemovalOrder> {
  const { multiply = multiplyTransposed } = problem;
  const { size } = hessian;
  const factor = await invertFactorTransposed(hessian.lower, size, multiply);
  const inverse = createShrinkingInverse({
    inverse: await multiplySymmetric(factor, { size, inner: size, isUpper: true, multiply }),
    weight: pickColumns(problem.scoredWeight ?? problem.weight, range(size)),
    size,
    rowCount: problem.weight.shape[0]!,
    multiply,
  });
  let left = channelsOfUnits(problem).map((channels, unit) => ({ unit, channels }));
  const scores = new Float64Array(problem.unitCount);
  const costs: number[] = [];
  let [highest, piledUp] = [0, 0];
  while (left.length > 0) {
    const errors = new Map<number, number>();
    for (const { unit, channels } of left) errors.set(unit, await inverse.errorOf(channels));
    const ranked = [...left].sort((a, b) => errors.get(a.unit)! - errors.get(b.unit)! || a.unit - b.unit);
    const removed = ranked.slice(0, step);
    const together = await inverse.remove(Int32Array.from(removed.flatMap(({ channels }) => [...channels])));
    const apart = removed.reduce((sum, { unit }) => sum + errors.get(unit)!, 0);
    for (const { unit } of removed) {
      const error = errors.get(unit)! * (apart > 0 ? together / apart : 1);
      highest = Math.max(highest, error);
      piledUp += error;
      scores[unit] = piledUp;
      costs.push(highest);
    }
    left = ranked.slice(step).sort((a, b) => a.unit - b.unit);
    problem.onUnits?.(problem.unitCount - left.length);
  }
  return { scores, costs: Float64Array.from(costs) };
}

const range = (length: number): Int32Array => Int32Array.from({ length }, (_, i) => i);
