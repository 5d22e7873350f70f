import ndarray from 'ndarray';
import type { LinearWeight } from '../compensation/adapter.js';
import { choleskyInPlace } from '../linalg/cholesky.js';
import { transposeMatrix } from '../linalg/matrix-block.js';
import { type MultiplyTransposed, multiplyTransposed } from '../linalg/multiply-transposed.js';
import { pickColumns } from './column-sums.js';

/** Share of the mean curvature added to every direction: fewer tokens than outputs leave some without any. */
const FLOOR = 1e-6;

/**
 * Sees a linear map through the loss: `R W` with `R'R = G`, so that plain squared lengths of its columns become
 * `w_j' G w_j`, the loss's own measure of an error along them. Every score that measures columns of a weight then measures
 * loss, and scores of different maps can be compared.
 *
 * @param weight W, `[out, in]`.
 * @param curvature G, `[out, out]` row-major: the uncentred covariance of the loss's gradient at the map's output.
 * @returns `[out, in]`.
 * @see The LLM Surgeon (van der Ouderaa et al., ICLR 2024, arXiv 2312.17244), section 3
 */
export async function weightInLossMetric(
  weight: LinearWeight,
  curvature: Float64Array,
  multiply: MultiplyTransposed = multiplyTransposed,
): Promise<LinearWeight> {
  const [outputCount = 0, inputCount = 0] = weight.shape;
  const lower = curvature.slice();
  let mean = 0;
  for (let i = 0; i < outputCount; i++) mean += curvature[i * outputCount + i]! / outputCount;
  for (let i = 0; i < outputCount; i++) lower[i * outputCount + i]! += FLOOR * mean;
  await choleskyInPlace(lower, outputCount, multiply);
  // (W' L)' = L' W = R W: rows of W' times columns of L.
  const factor = transposeMatrix(lower, outputCount, outputCount);
  const columns = transposeMatrix(
    pickColumns(
      weight,
      Array.from({ length: inputCount }, (_, j) => j),
    ),
    outputCount,
    inputCount,
  );
  const shape = { rows: outputCount, columns: inputCount, inner: outputCount };
  return ndarray(Float32Array.from(await multiply(factor, columns, shape)), [outputCount, inputCount]);
}
