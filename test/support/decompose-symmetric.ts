import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import type { Eigenpairs } from '../../src/linalg/decompose-leading.js';

/** All eigenpairs of a symmetric `[size, size]` matrix. */
export function decomposeSymmetric(symmetric: Float64Array, size: number): Eigenpairs {
  const matrix = Matrix.from1DArray(size, size, symmetric);
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(matrix, { assumeSymmetric: true });
  const order = realEigenvalues.map((_, index) => index).sort((a, b) => realEigenvalues[b]! - realEigenvalues[a]!);
  const vectors = new Float64Array(size * size);
  order.forEach((source, target) => {
    for (let i = 0; i < size; i++) vectors[target * size + i] = eigenvectorMatrix.get(i, source);
  });
  return { values: Float64Array.from(order, (source) => realEigenvalues[source]!), vectors };
}
