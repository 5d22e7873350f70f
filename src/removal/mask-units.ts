import type { PrunableModule } from '../architecture/layout.js';
import type { Random } from '../linalg/random.js';
import { encodeFloats, readFloat32 } from '../onnx/float-encoding.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { editGraph } from './graph-editor.js';
import { channelsOf } from './judge-module.js';
import { addLinearBias, linearWeightName, type StoreTensor, storeInMemory } from './repair-linear.js';

export interface Masking {
  readonly module: PrunableModule;
  /** Units that stay, ascending. */
  readonly keep: Int32Array;
  /** Repaired columns of the kept channels, `[out, kept]` row-major. */
  readonly weight?: Float32Array | undefined;
  readonly bias?: Float64Array | undefined;
  /** Keeps the masked weight. Default: in memory. */
  readonly store?: StoreTensor | undefined;
  /** Moves every weight of the output map to a neighbour of its data type, up or down at random. Default: none moves. */
  readonly nudge?: Random | undefined;
}

/** Distance of neighbouring numbers, as a fraction of them at most: FLOAT, FLOAT16, BFLOAT16. */
const EPSILONS: Readonly<Record<number, number>> = { 1: 2 ** -23, 10: 2 ** -10, 16: 2 ** -7 };

/**
 * Does in place to a dense model what pruning does, without making anything smaller: the removed channels' columns of the
 * output map become zero, the kept ones are repaired, the bias is added. What `removeUnits` writes must compute the same.
 */
export async function maskUnits(model: OnnxModel, given: Masking): Promise<void> {
  const { module, keep, weight, bias, store = storeInMemory, nudge } = given;
  const linear = module.output;
  const editor = editGraph(model);
  const shared = linearWeightName(model, linear);
  const handle = model.weights.get(shared)!;
  const values = await readFloat32(handle);
  const kept = channelsOf(module, keep);
  const columns = new Int32Array(linear.inputCount).fill(-1);
  kept.forEach((channel, column) => {
    columns[channel] = column;
  });
  const [, width = 0] = handle.dims;
  for (let at = 0; at < values.length; at += 1) {
    const [row, column] = [Math.floor(at / width), at % width];
    const [channel, out] = linear.inputAxis === 1 ? [column, row] : [row, column];
    const position = columns[channel]!;
    if (position < 0) values[at] = 0;
    else if (weight !== undefined) values[at] = weight[out * kept.length + position]!;
  }
  const { dataType, dims } = handle;
  const epsilon = EPSILONS[dataType] ?? 0;
  if (nudge !== undefined) {
    for (let at = 0; at < values.length; at += 1) values[at]! *= nudge() < 0.5 ? 1 - epsilon : 1 + epsilon;
  }
  const masked = await store({ dataType, dims }, encodeFloats(dataType, values));
  editor.replaceWeightFor(linear.result, shared, masked);
  if (bias !== undefined) await addLinearBias(model, linear, bias);
}
