import type { OutputLinear, PrunableModule } from '../architecture/layout.js';
import { NumericalError } from '../errors.js';
import { OPEN } from '../onnx/value-facts.js';
import type { Batch } from '../runtime/block-runner.js';
import { joinExtensions, type StageExtension } from '../runtime/compile-stage.js';
import type { Tensors } from '../runtime/engine.js';
import type { BackwardMeter } from './backpropagate.js';
import { extendStage } from './extend-stage.js';
import { createGramSum, type GramSum } from './gram-sum.js';

/** A meter of the metric's curvature at one module's output. */
export interface CurvatureMeter extends BackwardMeter {
  /** G, `[out, out]` row-major. @throws NumericalError when the gradients are NaN, infinite or all zero, naming the block. */
  finish(): Float64Array;
}

/** Added to every |h|²: all tokens have equal weight where the linear layer's input is zero. */
const EPSILON = 1e-20;

/** Largest weight of a token, in geometric means of |h|² over its window. */
const MAX_WEIGHT = 0.25;

/**
 * Uncentred covariance over tokens of the loss's gradient at the output of a module's last linear layer,
 * `G = mean w g g' / mean w` with g = dL/dy: the second-order sensitivity of the loss to an error there. The weights w
 * are 1 unless a norm follows the layer.
 *
 * An error D of the layer's weights costs `mean (g' D h)²`, h the layer's input. That is `tr(D A D' G)` with
 * `A = mean h h'` only where |h| and |g| are independent over tokens. Before a norm they are not: a token with a small
 * output, such as BOS, has a large gradient, and an error as small as its output. So there `w = min(|h|², m / 4)`, m the
 * geometric mean of |h|² over the token's window: tokens of small |h| count less, and massive activations do not count
 * more.
 *
 * @see The LLM Surgeon (van der Ouderaa et al., ICLR 2024, arXiv 2312.17244), section 3; K-FAC (Martens & Grosse, ICML 2015)
 */
export function createCurvatureMeter({ output, index, block, kind, isNormalized }: PrunableModule): CurvatureMeter {
  const size = output.outputCount;
  // Experts have no linear layer with a single input h.
  const isWeighted = isNormalized === true && kind !== 'experts';
  let total = 0;
  let gram: GramSum | undefined;
  const prefix = `curvature/${index}`;
  const reads = isWeighted ? [output.input] : [];
  return {
    reads,
    wanted: [output.result],
    open(gradientOf) {
      const gradient = gradientOf(output.result);
      const factors = isWeighted ? weightedFactors(prefix, output, gradient) : plainFactors(prefix, output, gradient);
      const { extension, left, right, weights } = factors;
      // Graphs of several batch sizes have the same names, and add to one sum.
      gram ??= createGramSum({ name: `${prefix}/gram`, left, right, size });
      const sum = gram;
      return {
        reads,
        extension: joinExtensions([{ ...extension, outputs: weights === undefined ? [] : [weights] }, sum]),
        feeds: (batch) => ({ ...sum.feeds(), ...factors.feeds?.(batch) }),
        add(batch, values) {
          if (weights === undefined) total += batch.tokens.length;
          else for (const weight of values[weights]!.data as Float32Array) total += weight;
          sum.add(values);
        },
      };
    },
    finish() {
      const mean = gram!.finish(total);
      let trace = 0;
      for (let i = 0; i < size; i += 1) trace += mean[i * size + i]!;
      if (!Number.isFinite(trace)) {
        throw new NumericalError(
          `block ${block} ${kind}: the gradient of the loss is NaN or infinite; check the weights, or run the model in float32`,
        );
      }
      if (trace === 0) {
        throw new NumericalError(
          `block ${block} ${kind}: the gradient of the loss is zero on all calibration tokens, so importance cannot be measured; ` +
            "use other calibration text, or set metric: 'output'",
        );
      }
      return mean;
    },
  };
}

/** Names of two values, `[out, tokens]`, whose product is the covariance, and of the tokens' weights. */
interface Factors {
  readonly extension: Omit<StageExtension, 'outputs'>;
  readonly left: string;
  readonly right: string;
  /** `[tokens, 1]`; absent: all 1. */
  readonly weights?: string;
  feeds?(batch: Batch): Tensors;
}

function plainFactors(prefix: string, { outputCount }: OutputLinear, gradient: string): Factors {
  const { names, ...extension } = extendStage(prefix, (o) => ({
    channels: o.transpose(o.rows(o.value(gradient), outputCount), [1, 0]),
  }));
  return { extension, left: names.channels, right: names.channels };
}

function weightedFactors(prefix: string, { input, inputCount, outputCount }: OutputLinear, gradient: string): Factors {
  const { names, ...extension } = extendStage(prefix, (o) => {
    const windows = o.input('windows', [2], 'int64');
    const average = o.input('average', [OPEN, 1]);
    const read = o.rows(o.float(o.value(input)), inputCount);
    const squaredNorms = o.add(o.sumChannels(o.mul(read, read)), EPSILON);
    const byWindow = o.reshapeTo(squaredNorms, windows);
    const largest = o.mul(o.exp(o.matMul(o.log(byWindow), average)), MAX_WEIGHT);
    const weights = o.rows(o.where(o.less(byWindow, largest), byWindow, largest), 1);
    const right = o.rows(o.value(gradient), outputCount);
    const left = o.transpose(o.mul(right, weights), [1, 0]);
    return { windows, average, weights, left, right: o.transpose(right, [1, 0]) };
  });
  return {
    extension,
    left: names.left,
    right: names.right,
    weights: names.weights,
    feeds: ({ batchSize, sequenceLength }) => ({
      [names.windows]: { type: 'int64', dims: [2], data: BigInt64Array.of(BigInt(batchSize), BigInt(sequenceLength)) },
      [names.average]: {
        type: 'float32',
        dims: [sequenceLength, 1],
        data: new Float32Array(sequenceLength).fill(1 / sequenceLength),
      },
    }),
  };
}
