import type { PrunableModule } from '../architecture/layout.js';
import type { ChannelStatistics } from '../compensation/adapter.js';
import { copyColumns } from '../linalg/matrix-block.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { type BlockGrid, dequantise, roundToNearest } from '../quantisation/block-codes.js';
import { readLinearWeight } from '../removal/repair-linear.js';
import type { MeasuredModel } from './measure-dense/measure-dense.js';
import type { CodedForm } from './measure-draft.js';
import type { Bits, SizedWeight } from './mixtures.js';
import { nats } from './nats.js';

/** Inputs for estimates of rounding costs. */
export interface RoundingSource extends Pick<MeasuredModel, 'curvatures' | 'read'> {
  readonly model: OnnxModel;
  readonly modules: readonly PrunableModule[];
  readonly form: CodedForm;
  /** Weights of linear layers, with the module of each. */
  readonly weights: readonly SizedWeight[];
  /** Tokens of a calibration window. */
  readonly windowLength: number;
}

/** Cost of each linear layer in each number of bits, in nats per token. */
export type RoundingCosts = ReadonlyMap<string, ReadonlyMap<Bits, number>>;

/**
 * Estimates the cost of rounding linear layers from statistics, without a draft. Rounding errors e are independent, so that of
 * a module's output projection costs the sum of G_ii A_jj e_ij^2: G the metric's curvature at its output, A the Gram matrix of
 * its input. The module's other linear layers are assumed to cost the same.
 *
 * @returns undefined if statistics lack the curvature, or are of function groups.
 */
export async function estimateRounding({
  model,
  modules,
  form,
  curvatures,
  read,
  weights,
  windowLength,
}: RoundingSource): Promise<RoundingCosts | undefined> {
  if (curvatures === undefined || read === undefined) return undefined;
  const costs = new Map<string, ReadonlyMap<Bits, number>>();
  for (const module of modules) {
    const own = weights.filter((weight) => weight.module === module.index);
    if (module.kind === 'experts' || own.length === 0) continue;
    const [statistics, ...others] = await read(module);
    if (statistics === undefined || others.length > 0) return undefined;
    const { data } = await curvatures.get(module.index);
    const errors = { weight: await readMatrix(model, module), statistics, curvature: data as Float32Array };
    const bits = new Set(own.flatMap(({ forms }) => forms.flatMap(({ grid }) => grid?.bits ?? [])));
    const gain = form.rounding === 'calibrated' ? FEEDBACK_GAIN : 1;
    const byBits = new Map(
      [...bits].map((each) => [each, gain * nats(costOf(errors, gridOf(form, each)), windowLength)]),
    );
    for (const { name } of own) costs.set(name, byBits);
  }
  return costs;
}

/**
 * Cost of rounding with error feedback relative to that of the nearest levels, which the sum estimates: 0.7 on the bundled model,
 * 0.4 on SmolLM2-135M.
 */
const FEEDBACK_GAIN = 0.6;

const gridOf = ({ blockSize, symmetric, dtype }: CodedForm, bits: Bits): BlockGrid => ({
  bits,
  blockSize,
  hasZeroPoints: !symmetric && bits < 8,
  scaleType: dtype.floats === 'float16' ? 'float16' : 'float32',
});

/** `[out, in]`, row-major. */
async function readMatrix(model: OnnxModel, { output }: PrunableModule): Promise<Float32Array> {
  const weight = await readLinearWeight(model, output);
  const columns = Array.from({ length: output.inputCount }, (_, column) => column);
  return copyColumns(weight, columns, new Float32Array(output.outputCount * output.inputCount));
}

interface RoundingErrors {
  readonly weight: Float32Array;
  readonly statistics: ChannelStatistics;
  /** `[out, out]`, row-major. */
  readonly curvature: Float32Array;
}

function costOf({ weight, statistics: { mean, variance }, curvature }: RoundingErrors, grid: BlockGrid): number {
  const inCount = mean.length;
  const outCount = weight.length / inCount;
  const rounded = dequantise(roundToNearest(weight, { grid, outCount, inCount }));
  let sum = 0;
  for (let row = 0; row < outCount; row += 1) {
    let ofRow = 0;
    for (let column = 0; column < inCount; column += 1) {
      const at = row * inCount + column;
      ofRow += (variance[column]! + mean[column]! ** 2) * (weight[at]! - rounded[at]!) ** 2;
    }
    sum += curvature[row * outCount + row]! * ofRow;
  }
  return sum;
}
