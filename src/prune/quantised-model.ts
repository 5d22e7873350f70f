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

/** A weight and the grid that it goes to. */
export interface GriddedWeight extends QuantisableWeight {
  readonly grid: BlockGrid;
  /** Scales that its blocks had before, where they stood on that grid. */
  readKnown?(): Promise<KnownScales | undefined>;
}

/** How a linear layer was rounded, and what rounding to the nearest levels would have cost. */
export interface LinearRounding {
  readonly chosen: Rounding;
  readonly nearest: Rounding;
}

/** A model whose weights stand on grids. */
export interface QuantisedModel {
  /** The model with the weights that their codes stand for, as floats. */
  readonly model: OnnxModel;
  readonly weights: readonly QuantisedWeight[];
  /** How each measured weight was rounded, by its name. */
  readonly roundings: ReadonlyMap<string, LinearRounding>;
  /** Estimated cost of rounding each measured linear layer, in nats per token. */
  readonly costs: ReadonlyMap<string, number>;
  /** Windows that no rounding was learned from. */
  readonly heldOut: readonly Int32Array[];
  readonly timings: readonly StageTiming[];
  readonly remarks: readonly string[];
}

/** A weight as `[N, K]`, whatever its layout in the file. */
export async function readRows(model: OnnxModel, weight: QuantisableWeight): Promise<Float32Array> {
  const rows = new Float32Array(weight.outCount * weight.inCount);
  for await (const { first, values } of readRowParts(model, weight)) {
    rows.set(values, first * weight.inCount);
    freeBytes(values);
  }
  return rows;
}

/** A weight's rows, some at a time. */
export async function* readRowParts({ weights }: OnnxModel, weight: QuantisableWeight): AsyncGenerator<WeightRows> {
  const handle = weights.get(weight.name)!;
  const layout = { ...weight, dataType: handle.dataType };
  const bytes = await handle.read();
  for (const range of rowParts(weight)) yield { first: range[0], values: decodeRows(bytes, layout, range) };
  freeBytes(bytes);
}

/** Keeps a weight's codes, and has the model compute with what they stand for. */
export async function putCodes(
  model: OnnxModel,
  weight: GriddedWeight,
  { codes, store }: { readonly codes: BlockCodes } & Pick<PruneJob, 'store'>,
): Promise<QuantisedWeight> {
  const stored = await storeCodes(codes, store);
  setWeight(model, weight.name, dequantisedHandle(model.weights.get(weight.name)!, stored, weight.inputAxis));
  return { ...weight, stored };
}
