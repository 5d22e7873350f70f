import { NumericalError } from '../errors.js';
import type { BackwardMeter } from './backpropagate.js';
import { extendStage } from './extend-stage.js';

/** A meter of the loss's sensitivity to each token at one value. */
export interface TokenWeightMeter extends BackwardMeter {
  /** `|g_t|^2` of every token, by the index of its batch. @throws NumericalError for NaN and infinite gradients. */
  finish(): ReadonlyMap<number, Float32Array>;
}

/**
 * Measures the squared norm of the loss's gradient at a value, by token: weights of the tokens' errors in a repair that
 * should change the loss little.
 * @see GuidedQuant (Kim et al., ICML 2025, arXiv 2505.07004), with one group of channels
 */
export function createTokenWeightMeter(value: string, channelCount: number): TokenWeightMeter {
  const weights = new Map<number, Float32Array>();
  return {
    reads: [],
    wanted: [value],
    open(gradientOf) {
      const { names, ...extension } = extendStage(`token_weight/${value}`, (o) => {
        const gradient = o.rows(o.value(gradientOf(value)), channelCount);
        return { sums: o.sumChannels(o.mul(gradient, gradient)) };
      });
      return {
        reads: [],
        extension: { ...extension, outputs: [names.sums] },
        feeds: () => ({}),
        add: (batch, values) =>
          void weights.set(batch.index, Float32Array.from(values[names.sums]!.data as Float32Array)),
      };
    },
    finish() {
      for (const found of weights.values()) {
        if (found.every(Number.isFinite)) continue;
        throw new NumericalError(
          `the gradient of the loss at "${value}" is NaN or infinite; check the weights, or run the model in float32`,
        );
      }
      return weights;
    },
  };
}
