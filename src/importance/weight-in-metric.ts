import ndarray from 'ndarray';
import type { LinearWeight } from '../compensation/adapter.js';
import { freeBytes } from '../free-bytes.js';
import { factoriseDampened } from '../linalg/factorise-dampened.js';
import { copyColumns, transposeMatrix } from '../linalg/matrix-block.js';
import { type MultiplyTransposed, multiplyTransposed } from '../linalg/multiply-transposed.js';
import { multiplyUpper } from '../linalg/multiply-upper.js';

/** A layer's weight, transformed by a metric. */
export interface MetricWeight {
  /** `[out, in]`. */
  readonly weight: LinearWeight;
  readonly remarks: readonly string[];
}

/** Dampening as a fraction of the mean curvature: with fewer tokens than outputs G is singular. */
const FLOOR = 1e-6;

/**
 * Transforms a linear layer by a metric's curvature: `R W` with `R'R = G`, so that the squared norm of column j becomes
 * `w_j' G w_j`, the cost of an error along it in the metric. Every score that reads columns of a weight then works in
 * the metric, and scores of different layers are comparable.
 *
 * @param weight W, `[out, in]`.
 * @param curvature G, `[out, out]` row-major: the uncentred covariance of the metric's gradient at the layer's output.
 * @throws NumericalError when G cannot be factorised, even with more dampening.
 * @see The LLM Surgeon (van der Ouderaa et al., ICLR 2024, arXiv 2312.17244), section 3
 */
export async function weightInMetric(
  weight: LinearWeight,
  curvature: Float64Array,
  multiply: MultiplyTransposed = multiplyTransposed,
): Promise<MetricWeight> {
  const [outputCount = 0, inputCount = 0] = weight.shape;
  let mean = 0;
  for (let i = 0; i < outputCount; i++) mean += curvature[i * outputCount + i]! / outputCount;
  const copy = () => curvature.slice();
  const matrix = { size: outputCount, copy, unit: mean, dampening: FLOOR, multiply };
  const { lower, dampening } = await factoriseDampened(matrix);
  const remark = `dampening of the curvature of ${outputCount} outputs raised from ${FLOOR} to ${dampening}: few tokens, or very similar ones`;
  // (W' L)' = L' W = R W: rows of W' times columns of L, in the weight's own precision.
  const single = new Float32Array(lower);
  const factor = transposeMatrix(single, outputCount, outputCount);
  const all = Array.from({ length: inputCount }, (_, j) => j);
  const rows = copyColumns(weight, all, new Float32Array(outputCount * inputCount));
  const columns = transposeMatrix(rows, outputCount, inputCount);
  freeBytes(lower, single, rows);
  const transformed = await multiplyUpper(factor, columns, { size: outputCount, columns: inputCount, multiply });
  freeBytes(factor, columns);
  return {
    weight: ndarray(transformed, [outputCount, inputCount]),
    remarks: dampening === FLOOR ? [] : [remark],
  };
}
