import type { PrunableModule } from '../architecture/layout.js';
import { NumericalError } from '../errors.js';
import { joinExtensions } from '../runtime/compile-stage.js';
import { extendStage } from './extend-stage.js';
import { createGramSum, type GramSum } from './gram-sum.js';
import type { BackwardMeter } from './walk-backwards.js';

/** A meter of the metric's curvature at one module's output. */
export interface CurvatureMeter extends BackwardMeter {
  /** G, `[out, out]` row-major. @throws NumericalError when the gradients are NaN, infinite or all zero, naming the block. */
  finish(): Float64Array;
}

/**
 * Uncentred covariance over tokens of the loss's gradient at the output of a module's last linear map, `G = mean g g'` with
 * g = dL/dy: the second-order sensitivity of the loss to an error there.
 *
 * @see The LLM Surgeon (van der Ouderaa et al., ICLR 2024, arXiv 2312.17244), section 3; K-FAC (Martens & Grosse, ICML 2015)
 */
export function createCurvatureMeter({ output, index, block, kind }: PrunableModule): CurvatureMeter {
  const size = output.outputCount;
  let tokenCount = 0;
  let gram: GramSum | undefined;
  const prefix = `curvature/${index}`;
  return {
    reads: [],
    wanted: [output.result],
    open(gradientOf) {
      const { names, ...own } = extendStage(prefix, (o) => ({
        channels: o.transpose(o.rows(o.value(gradientOf(output.result)), size), [1, 0]),
      }));
      // Graphs of several batch sizes add to one sum; the names in them are the same.
      gram ??= createGramSum({ name: `${prefix}/gram`, left: names.channels, right: names.channels, size });
      const sum = gram;
      return {
        reads: [],
        extension: joinExtensions([{ ...own, outputs: [] }, sum]),
        feeds: sum.feeds,
        add(batch, values) {
          tokenCount += batch.tokens.length;
          sum.add(values);
        },
      };
    },
    finish() {
      const mean = gram!.finish(tokenCount);
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
