import { createRandom, drawNormal } from './random.js';

/** Enough for two digits on spectra with gaps, at most a percent of the factorisation's cost. */
const ITERATION_COUNT = 10;

/**
 * Estimates the condition number (2-norm) of `L Lᵀ` by power iteration on it and on its inverse. The estimate never exceeds
 * the condition number.
 *
 * @param lower Cholesky factor `L`, `[size, size]` row-major; only its lower triangle is read.
 * @returns At least 1; 1 for an empty matrix.
 */
export function estimateCondition(lower: Float64Array, size: number): number {
  if (size === 0) return 1;
  const random = createRandom(0);
  const start = Float64Array.from({ length: size }, () => drawNormal(random));
  const largest = largestEigenvalue(start, (vector) => {
    multiplyByTransposed(lower, size, vector);
    multiplyByFactor(lower, size, vector);
  });
  const inverseOfSmallest = largestEigenvalue(start, (vector) => {
    solveFactor(lower, size, vector);
    solveTransposed(lower, size, vector);
  });
  return Math.max(1, largest * inverseOfSmallest);
}

/** Rayleigh quotient after some iterations. @param apply Multiplies in place. */
function largestEigenvalue(start: Float64Array, apply: (vector: Float64Array) => void): number {
  let unit = normalised(start);
  let quotient = 0;
  for (let iteration = 0; iteration < ITERATION_COUNT; iteration++) {
    const next = unit.slice();
    apply(next);
    quotient = dot(unit, next);
    unit = normalised(next);
  }
  return quotient;
}

function normalised(vector: Float64Array): Float64Array {
  const norm = Math.sqrt(dot(vector, vector));
  return vector.map((value) => value / norm);
}

function dot(one: Float64Array, other: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < one.length; i++) sum += one[i]! * other[i]!;
  return sum;
}

/** `vector <- Lᵀ vector`: row by row, so that memory is read in order. */
function multiplyByTransposed(lower: Float64Array, size: number, vector: Float64Array): void {
  for (let row = 0; row < size; row++) {
    const value = vector[row]!;
    vector[row] = 0;
    for (let column = 0; column <= row; column++) vector[column]! += lower[row * size + column]! * value;
  }
}

/** `vector <- L vector`. */
function multiplyByFactor(lower: Float64Array, size: number, vector: Float64Array): void {
  for (let row = size - 1; row >= 0; row--) {
    let sum = 0;
    for (let column = 0; column <= row; column++) sum += lower[row * size + column]! * vector[column]!;
    vector[row] = sum;
  }
}

/** `vector <- L⁻¹ vector`. */
function solveFactor(lower: Float64Array, size: number, vector: Float64Array): void {
  for (let row = 0; row < size; row++) {
    let sum = vector[row]!;
    for (let column = 0; column < row; column++) sum -= lower[row * size + column]! * vector[column]!;
    vector[row] = sum / lower[row * size + row]!;
  }
}

/** `vector <- L⁻ᵀ vector`. */
function solveTransposed(lower: Float64Array, size: number, vector: Float64Array): void {
  for (let row = size - 1; row >= 0; row--) {
    const value = vector[row]! / lower[row * size + row]!;
    vector[row] = value;
    for (let column = 0; column < row; column++) vector[column]! -= lower[row * size + column]! * value;
  }
}
