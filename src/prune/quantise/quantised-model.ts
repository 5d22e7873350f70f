import { freeBytes } from '../../free-bytes.js';
import { transposeMatrix } from '../../linalg/matrix-block.js';
import { setWeight } from '../../onnx/edit-weights.js';
import { readFloat32 } from '../../onnx/float-encoding.js';
import type { OnnxModel } from '../../onnx/onnx-model.js';
import type { BlockCodes, BlockGrid, KnownScales } from '../../quantisation/block-codes.js';
import type { QuantisableWeight } from '../../quantisation/find-weights.js';
import { dequantisedHandle, storeCodes } from '../../quantisation/store-codes.js';
import type { QuantisedWeight } from '../../quantisation/write-blocks.js';
import type { PruneJob, StageTiming } from '../job.js';
import type { Rounding } from './choose-codes.js';

/** A weight and the grid that it goes to. */
export interface GriddedWeight extends QuantisableWeight {
  readonly grid: BlockGrid;
  /** Scales that its blocks had before, where they stood on that grid. */
  readKnown?(): Promise<KnownScales | undefined>;
}

/** How a map was rounded, and what rounding to the nearest levels would have cost. */
export interface RoundingOfMap {
  readonly chosen: Rounding;
  readonly nearest: Rounding;
}

/** A model whose weights stand on grids. */
export interface QuantisedModel {
  /** The model with the weights that their codes stand for, as floats. */
  readonly model: OnnxModel;
  readonly weights: readonly QuantisedWeight[];
  /** How each measured weight was rounded, by its name. */
  readonly roundings: ReadonlyMap<string, RoundingOfMap>;
  /** Estimated cost of rounding each measured map, in nats a token. */
  readonly costs: ReadonlyMap<string, number>;
  /** Windows that no rounding was learned from. */
  readonly heldOut: readonly Int32Array[];
  readonly timings: readonly StageTiming[];
  readonly remarks: readonly string[];
}

/** A weight as `[N, K]`, whatever its layout in the file. */
export async function readRows(
  { weights }: OnnxModel,
  { name, inputAxis, inCount, outCount }: QuantisableWeight,
): Promise<Float32Array> {
  const values = await readFloat32(weights.get(name)!);
  if (inputAxis === 1) return values;
  const rows = transposeMatrix(values, inCount, outCount);
  freeBytes(values);
  return rows;
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
