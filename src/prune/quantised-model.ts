import { freeBytes } from '../free-bytes.js';
import { setWeight } from '../onnx/edit-weights.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { BlockCodes, BlockGrid, KnownScales, WeightRows } from '../quantisation/block-codes.js';
import type { QuantisableWeight } from '../quantisation/find-weights.js';
import { decodeRows, rowParts } from '../quantisation/row-parts.js';
import { dequantisedHandle, storeCodes } from '../quantisation/store-codes.js';
import type { QuantisedWeight } from '../quantisation/write-blocks.js';
import type { Rounding } from './choose-codes.js';
import type { PruneJob, StageTiming } from './job.js';

/** A weight and its grid. */
export interface GriddedWeight extends QuantisableWeight {
  readonly grid: BlockGrid;
  /** Scales of its blocks in the original model, if these are on the same grid. */
  readKnown?(): Promise<KnownScales | undefined>;
}

/** Rounding of a linear layer, and the cost of rounding to the nearest levels. */
export interface LinearRounding {
  readonly chosen: Rounding;
  readonly nearest: Rounding;
}

/** A model with quantised weights. */
export interface QuantisedModel {
  /** The model with dequantised weights. */
  readonly model: OnnxModel;
  readonly weights: readonly QuantisedWeight[];
  /** Rounding of each measured weight, by its name. */
  readonly roundings: ReadonlyMap<string, LinearRounding>;
  /** Estimated cost of rounding each measured linear layer, in nats per token. */
  readonly costs: ReadonlyMap<string, number>;
  /** Windows that rounding did not learn from. */
  readonly heldOut: readonly Int32Array[];
  readonly timings: readonly StageTiming[];
  readonly remarks: readonly string[];
}

/** Reads a weight as `[N, K]`, for any layout in the file. */
export async function readRows(model: OnnxModel, weight: QuantisableWeight): Promise<Float32Array> {
  const rows = new Float32Array(weight.outCount * weight.inCount);
  for await (const { first, values } of readRowParts(model, weight)) {
    rows.set(values, first * weight.inCount);
    freeBytes(values);
  }
  return rows;
}

/** Reads a weight's rows, some at a time. */
export async function* readRowParts({ weights }: OnnxModel, weight: QuantisableWeight): AsyncGenerator<WeightRows> {
  const handle = weights.get(weight.name)!;
  const layout = { ...weight, dataType: handle.dataType };
  const bytes = await handle.read();
  for (const range of rowParts(weight)) yield { first: range[0], values: decodeRows(bytes, layout, range) };
  freeBytes(bytes);
}

/** Stores a weight's codes, and replaces the weight in the model by its dequantised codes. */
export async function putCodes(
  model: OnnxModel,
  weight: GriddedWeight,
  { codes, store }: { readonly codes: BlockCodes } & Pick<PruneJob, 'store'>,
): Promise<QuantisedWeight> {
  const stored = await storeCodes(codes, store);
  setWeight(model, weight.name, dequantisedHandle(model.weights.get(weight.name)!, stored, weight.inputAxis));
  return { ...weight, stored };
}
