import type { PrunableModule } from '../architecture/layout.js';
import { NumericalError } from '../errors.js';
import { OPEN } from '../onnx/value-facts.js';
import type { Batch } from '../runtime/block-runner.js';
import type { Tensor } from '../runtime/engine.js';
import type { BackwardMeter } from './backpropagate.js';
import { extendStage } from './extend-stage.js';

/** Contexts of the tokens at one FFN. */
export interface TokenContexts {
  readonly contextCount: number;
  /** Context of every calibration token. */
  readonly contextOfToken: Int32Array;
}

/** A meter of one module's affinity. */
export interface AffinityMeter extends BackwardMeter {
  /** `S[k][j]`, `[contextCount, neurons]` row-major. @throws NumericalError for NaN gradients. */
  finish(): Float64Array;
}

/**
 * Mean over the tokens of a context of |h_j dL/dh_j|, L the next-token cross-entropy of the dense model (mean over the
 * window), for every context and neuron of a module.
 *
 * @see FANG (arXiv 2512.23014), Eq. 5
 */
export function createAffinityMeter(module: PrunableModule, contexts: TokenContexts): AffinityMeter {
  const { contextCount } = contexts;
  const { input } = module.output;
  const sums = new Float64Array(contextCount * module.unitCount);
  return {
    reads: [input],
    wanted: [input],
    open(gradientOf) {
      const { names, ...extension } = extendStage(`affinity/${module.index}`, (o) => {
        const onehot = o.input('onehot', [contextCount, OPEN]);
        const product = o.abs(o.mul(o.float(o.value(input)), o.value(gradientOf(input))));
        return { onehot, sums: o.matMul(onehot, o.rows(product, module.unitCount)) };
      });
      return {
        reads: [input],
        extension: { ...extension, outputs: [names.sums] },
        feeds: (batch) => ({ [names.onehot]: oneHot(batch, contexts) }),
        add(_batch, values) {
          (values[names.sums]!.data as Float32Array).forEach((value, at) => {
            sums[at]! += value;
          });
        },
      };
    },
    finish: () => meansByContext(module, sums, contexts),
  };
}

/** Rows of a batch's tokens by context, `[contextCount, tokens]`. */
function oneHot({ firstToken, tokens }: Batch, { contextCount, contextOfToken }: TokenContexts): Tensor {
  const tokenCount = tokens.length;
  const data = new Float32Array(contextCount * tokenCount);
  for (let token = 0; token < tokenCount; token += 1)
    data[contextOfToken[firstToken + token]! * tokenCount + token] = 1;
  return { type: 'float32', dims: [contextCount, tokenCount], data };
}

function meansByContext(
  module: PrunableModule,
  sums: Float64Array,
  { contextCount, contextOfToken }: TokenContexts,
): Float64Array {
  const counts = new Float64Array(contextCount);
  for (const context of contextOfToken) counts[context]! += 1;
  return sums.map((sum, at) => {
    const count = counts[Math.floor(at / module.unitCount)]!;
    const mean = count === 0 ? 0 : sum / count;
    if (Number.isFinite(mean)) return mean;
    throw new NumericalError(
      `the gradient of neuron ${at % module.unitCount} in block ${module.block} is NaN or infinite; check the weights, or run the model in float32`,
    );
  });
}
