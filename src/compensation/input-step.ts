import { freeBytes } from '../free-bytes.js';
import { invertFactorInPlace } from '../linalg/cholesky.js';
import { factoriseDampened } from '../linalg/factorise-dampened.js';
import { mirrorLower } from '../linalg/multiply-symmetric.js';
import { type MultiplyTransposed, multiplyTransposed } from '../linalg/multiply-transposed.js';
import { multiplyUpperInPlace } from '../linalg/multiply-upper.js';

/** Kronecker factors of the curvature of an FFN's squared output error with respect to its input projections. */
export interface InputCurvatureProblem {
  readonly inputCount: number;
  readonly neuronCount: number;
  /** Mean over tokens of `x x'`, x the FFN's input: `[in, in]` row-major. */
  readonly inputGram: Float64Array;
  /**
   * Mean over tokens of `d d'`, d the derivative of each neuron with respect to a layer's output: `[neurons, neurons]`
   * row-major, one for each layer.
   */
  readonly rates: readonly Float64Array[];
  /** `W' W` of the output projection's weight W `[out, neurons]`: `[neurons, neurons]` row-major. */
  readonly outputGram: Float32Array;
  /** Fraction of the mean of each factor's diagonal that is added to it, above 0. */
  readonly dampening: number;
  readonly multiply?: MultiplyTransposed | undefined;
}

/** Preconditions gradients of an FFN's input projections by a quadratic model of the error. */
export interface InputCurvature {
  /** `A⁻¹ gradient S⁻¹` for one layer, both `[in, neurons]` row-major. */
  precondition(gradient: Float32Array, layer: number): Promise<Float32Array>;
  dispose(): void;
}

/**
 * Gauss-Newton curvature in Kronecker form for each layer: `A ⊗ S` with `A = mean x x'` and `S = (mean d d') ∘ (W' W)`,
 * assuming x and d independent over tokens. The dampening is large enough for single precision.
 *
 * @throws NumericalError when a factor cannot be factorised.
 * @see K-FAC (Martens and Grosse, ICML 2015, arXiv 1503.05671), sections 3 and 6.3
 */
export async function createInputCurvature(problem: InputCurvatureProblem): Promise<InputCurvature> {
  const { inputCount, neuronCount, inputGram, rates, outputGram, dampening, multiply = multiplyTransposed } = problem;
  // Multiplying by the inverse is precise enough for a step, and faster than solving.
  const invert = async (size: number, copy: () => Float32Array, diagonal: (at: number) => number) => {
    let trace = 0;
    for (let i = 0; i < size; i += 1) trace += diagonal(i * size + i);
    const unit = trace > 0 ? trace / size : 1;
    const { lower } = await factoriseDampened({ size, copy, unit, dampening, multiply });
    await invertFactorInPlace(lower, size, multiply);
    await multiplyUpperInPlace(lower, { size, multiply });
    mirrorLower(lower, size);
    return lower;
  };
  const inputInverse = await invert(
    inputCount,
    () => new Float32Array(inputGram),
    (at) => inputGram[at]!,
  );
  const neuronInverses: Float32Array[] = [];
  for (const rate of rates)
    neuronInverses.push(
      await invert(
        neuronCount,
        () => multiplyEntries(rate, outputGram),
        (at) => rate[at]! * outputGram[at]!,
      ),
    );
  return {
    async precondition(gradient, layer) {
      const shape = { rows: neuronCount, columns: inputCount, inner: neuronCount };
      const scaled = await multiply(neuronInverses[layer]!, gradient, shape);
      const step = await multiply(inputInverse, scaled, { rows: inputCount, columns: neuronCount, inner: inputCount });
      freeBytes(scaled);
      return step;
    },
    dispose: () => freeBytes(inputInverse, ...neuronInverses),
  };
}

function multiplyEntries(left: Float64Array, right: Float32Array): Float32Array {
  const product = new Float32Array(left.length);
  for (let at = 0; at < product.length; at += 1) product[at] = left[at]! * right[at]!;
  return product;
}

/**
 * Weight of the last direction in the next one: `max(0, <z, g - g₀> / <g₀, z₀>)`, z the preconditioned gradient g.
 * @see Polak and Ribière (1969); Nocedal and Wright, Numerical Optimization, section 5.2
 */
export function polakRibiere(now: readonly Gradients[], before: readonly Gradients[]): number {
  let numerator = 0;
  let denominator = 0;
  for (const [k, { gradient, preconditioned }] of now.entries()) {
    const last = before[k]!;
    for (let at = 0; at < gradient.length; at += 1) {
      numerator += preconditioned[at]! * (gradient[at]! - last.gradient[at]!);
      denominator += last.gradient[at]! * last.preconditioned[at]!;
    }
  }
  return denominator > 0 ? Math.max(0, numerator / denominator) : 0;
}

/**
 * Lowest point of the parabola through the errors along a step: at most half the tried length if the error did not
 * decrease.
 *
 * @param start The error, and its rate of descent (above 0). @param found The error at some length.
 */
export function lowestOnParabola(
  start: { readonly error: number; readonly slope: number },
  found: { readonly error: number; readonly length: number },
): number {
  const { length } = found;
  return (start.slope * length ** 2) / (2 * (found.error - start.error + start.slope * length));
}

/** A gradient, and the preconditioned one. */
export interface Gradients {
  readonly gradient: Float32Array;
  readonly preconditioned: Float32Array;
}
