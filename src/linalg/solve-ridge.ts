import { solveRowsInPlace } from './cholesky.js';
import { factoriseDampened } from './factorise-dampened.js';
import { transposeMatrix } from './matrix-block.js';
import type { MultiplyTransposed } from './multiply-transposed.js';

export interface RidgeProblem {
  /** `X`, `[width, sampleCount]` row-major: features, one per row. */
  readonly features: Float64Array;
  /** `Y`, `[size, sampleCount]` row-major: targets, one output per row. */
  readonly targets: Float64Array;
  readonly width: number;
  readonly size: number;
  readonly sampleCount: number;
  /** Added to the diagonal of `X Xᵀ`, as a fraction of its mean. */
  readonly dampening: number;
  readonly multiply: MultiplyTransposed;
}

/**
 * Ridge regression: the matrix `M` that minimises `||M X - Y||² + λ ||M||²`, `[size, width]` row-major. With fewer
 * samples than features it solves in the dual form: `Y (Xᵀ X + λ I)⁻¹ Xᵀ` is the same as `Y Xᵀ (X Xᵀ + λ I)⁻¹`.
 *
 * @returns undefined if all features are zero.
 * @throws NumericalError when `X Xᵀ` cannot be factorised, see `factoriseDampened`.
 */
export async function solveRidge(problem: RidgeProblem): Promise<Float64Array | undefined> {
  const { features, targets, width, size, sampleCount, dampening, multiply } = problem;
  let trace = 0;
  for (const value of features) trace += value * value;
  if (!(trace > 0)) return undefined;
  const unit = trace / width;
  const factorise = async (rows: Float64Array, count: number, inner: number) => {
    const gram = await multiply(rows, rows, { rows: count, columns: count, inner });
    return factoriseDampened({ size: count, copy: () => gram.slice(), unit, dampening, multiply });
  };
  if (sampleCount < width) {
    const { lower } = await factorise(transposeMatrix(features, width, sampleCount), sampleCount, width);
    const solved = targets.slice();
    await solveRowsInPlace(lower, solved, { size: sampleCount, multiply });
    return multiply(solved, features, { rows: size, columns: width, inner: sampleCount });
  }
  const { lower } = await factorise(features, width, sampleCount);
  const map = await multiply(targets, features, { rows: size, columns: width, inner: sampleCount });
  await solveRowsInPlace(lower, map, { size: width, multiply });
  return map;
}
