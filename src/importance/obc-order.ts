import type { ImportanceProblem } from '../compensation/adapter.js';
import { freeBytes } from '../free-bytes.js';
import { invertFactorInPlace } from '../linalg/cholesky.js';
import { copyColumns, transposeMatrix } from '../linalg/matrix-block.js';
import { multiplyTransposed } from '../linalg/multiply-transposed.js';
import { multiplyUpperInPlace } from '../linalg/multiply-upper.js';
import type { Hessian } from './hessian.js';
import { createShrinkingInverse } from './shrinking-inverse.js';
import { channelsOfUnits } from './units.js';

/** A removal order with costs. */
export interface RemovalOrder {
  /** Importance by unit: the accumulated error at its removal, so that removing the lowest scores repeats the order. */
  readonly scores: Float64Array;
  /** Error added by the n-th removal, non-decreasing; the sum is the error of removing all. */
  readonly costs: Float64Array;
}

/**
 * Iterative OBC: removes the `step` cheapest units, repairs the weight, scores again, until none remains. Scores rise
 * in removal order. The cost of a step is the exact error of its units together, divided among them in proportion to
 * their single costs.
 *
 * Takes about `channelCount^2 (channelCount / 3 + out / 2)` multiplications for any `step`.
 *
 * @param hessian Its factor is overwritten. @param step Units removed between two updates, at least 1.
 * @see OBC (Frantar & Alistarh, NeurIPS 2022, arXiv 2208.11580); structured form: ZipLM
 */
export async function orderByObc(problem: ImportanceProblem, hessian: Hessian, step: number): Promise<RemovalOrder> {
  const { multiply = multiplyTransposed } = problem;
  const { size } = hessian;
  const rowCount = problem.weight.shape[0]!;
  const inverse = hessian.lower;
  await invertFactorInPlace(inverse, size, multiply);
  await multiplyUpperInPlace(inverse, { size, multiply });
  const weight = copyColumns(problem.scoredWeight ?? problem.weight, range(size), new Float32Array(rowCount * size));
  const columns = transposeMatrix(weight, rowCount, size);
  freeBytes(weight);
  const shrinking = createShrinkingInverse({ inverse, columns, size, rowCount, multiply });
  let remaining = channelsOfUnits(problem).map((channels, unit) => ({ unit, channels }));
  const scores = new Float64Array(problem.unitCount);
  const costs: number[] = [];
  const errors = new Float64Array(problem.unitCount);
  let [highest, totalError] = [0, 0];
  while (remaining.length > 0) {
    for (const { unit, channels } of remaining) {
      const error = shrinking.errorOf(channels);
      // Awaiting every channel would take as long as ranking them.
      errors[unit] = typeof error === 'number' ? error : await error;
    }
    const removed = findCheapest(remaining, errors, step);
    const jointError = await shrinking.remove(Int32Array.from(removed.flatMap(({ channels }) => [...channels])));
    const sumOfErrors = removed.reduce((sum, { unit }) => sum + errors[unit]!, 0);
    for (const { unit } of removed) {
      const error = errors[unit]! * (sumOfErrors > 0 ? jointError / sumOfErrors : 1);
      highest = Math.max(highest, error);
      totalError += error;
      scores[unit] = totalError;
      costs.push(highest);
    }
    const isRemoved = new Set(removed);
    remaining = remaining.filter((one) => !isRemoved.has(one));
    problem.onUnits?.(problem.unitCount - remaining.length);
  }
  freeBytes(columns);
  return { scores, costs: Float64Array.from(costs) };
}

/** Units of the lowest errors, cheapest first. Sorting all of them each time would take as long as the updates of narrow modules. */
function findCheapest<Unit extends { readonly unit: number }>(
  units: readonly Unit[],
  errors: Float64Array,
  count: number,
) {
  const highest = Float64Array.from(units, ({ unit }) => errors[unit]!).sort()[Math.min(count, units.length) - 1]!;
  return units
    .filter(({ unit }) => !(errors[unit]! > highest))
    .sort((a, b) => errors[a.unit]! - errors[b.unit]! || a.unit - b.unit)
    .slice(0, count);
}

const range = (length: number): Int32Array => Int32Array.from({ length }, (_, i) => i);
