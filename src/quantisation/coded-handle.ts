import type { TensorHandle } from '../onnx/onnx-model.js';
import { elementCount } from '../onnx/value.js';
import type { BlockGrid, BlockScales } from './block-codes.js';
import { codeType, cutLinearCodes, type LinearCodes } from './linear-codes.js';
import { scalesOfLinear } from './linear-of-blocks.js';
import { cutBlocks, cutRows, readStoredScales, type StoredCodes } from './store-codes.js';
import { DYNAMIC_BITS } from './write-dynamic.js';

/** A weight's codes, and the operators that read them. */
export type WeightCodes =
  /** `MatMulNBits`, `MatMulBnb4`, `GatherBlockQuantized`; for `accuracyLevel` see `writeBlocks`. */
  | { readonly form: 'blocks'; readonly stored: StoredCodes; readonly accuracyLevel?: number }
  /** Constants read by `DequantizeLinear`, or factors of products with dynamically quantised activations (`MatMulInteger`). */
  | { readonly form: 'constants' | 'dynamic'; readonly linear: LinearCodes };

/** A float weight dequantised from codes, or the original float weight in their place. */
export interface CodedHandle extends TensorHandle {
  readonly coded: {
    readonly codes: WeightCodes;
    /** The values are the original floats, not the dequantised codes. */
    readonly isOriginal?: true;
  };
}

/** Codes of a weight, or those that its original floats replaced; undefined for plain floats. */
export const quantisedSource = (handle: TensorHandle | undefined): CodedHandle['coded'] | undefined =>
  handle !== undefined && 'coded' in handle ? (handle as CodedHandle).coded : undefined;

/**
 * Codes with exactly the values of a weight, cut in the same way.
 * @returns undefined if the values differ from those of the codes, or a cut divided blocks that share a scale.
 */
export function exactCodes(handle: TensorHandle, inputAxis: 0 | 1): WeightCodes | undefined {
  const own = quantisedSource(handle);
  if (own !== undefined) return own.isOriginal ? undefined : own.codes;
  if (handle.cut === undefined) return undefined;
  const { from, axis, keep } = handle.cut;
  const whole = exactCodes(from, inputAxis);
  if (whole === undefined) return undefined;
  if (whole.form === 'blocks') {
    const stored = axis === inputAxis ? cutBlocks(whole.stored, keep) : cutRows(whole.stored, keep);
    return stored && { ...whole, stored };
  }
  const linear = cutLinearCodes(whole.linear, axis, keep);
  return linear && { ...whole, linear };
}

/**
 * Reads the scales of codes as blocks of a grid.
 * @returns undefined if the grid lacks levels of the codes
 */
export async function readBlockScales(
  codes: WeightCodes,
  form: { readonly grid: BlockGrid; readonly inputAxis: 0 | 1 },
): Promise<BlockScales | undefined> {
  if (codes.form !== 'blocks') return scalesOfLinear(codes.linear, form);
  return hasLevelsOf(form.grid, codes.stored.grid) ? readStoredScales(codes.stored) : undefined;
}

const hasLevelsOf = (grid: BlockGrid, other: BlockGrid): boolean =>
  grid.bits === other.bits &&
  grid.blockSize === other.blockSize &&
  grid.codebook === other.codebook &&
  (grid.hasZeroPoints || !other.hasZeroPoints);

/**
 * Grid for rounding a changed weight in the form of its earlier codes. Linear codes without blocks along the input axis
 * get one scale per output.
 * @param inCount Current number of weights in a row.
 */
export function gridForCodes(codes: WeightCodes, inputAxis: 0 | 1, inCount: number): BlockGrid {
  if (codes.form === 'blocks') {
    const { grid } = codes.stored;
    // Codebooks need rows of whole blocks: other rows get integer levels in blocks of that size.
    const isAligned = grid.codebook === undefined || inCount % grid.blockSize === 0;
    return isAligned ? grid : { ...grid, codebook: undefined, hasZeroPoints: true };
  }
  const { scales, zeroPoints, axis, blockSize, ...linear } = codes.linear;
  const { name, bits } = codeType(linear.codes.handle);
  const isSigned = name.startsWith('int');
  return {
    bits: bits < 8 ? 4 : isSigned && codes.form === 'dynamic' ? DYNAMIC_BITS.int8 : 8,
    blockSize: blockSize > 0 && axis === inputAxis ? Math.min(blockSize, inCount) : inCount,
    // DequantizeLinear with several scales needs as many zero points.
    hasZeroPoints:
      codes.form === 'constants' ? !isSigned : zeroPoints !== undefined && elementCount(zeroPoints.handle.dims) > 1,
    scaleType: codeType(scales.handle).name === 'float16' ? 'float16' : 'float32',
  };
}

/** Inputs of an output that share a scale; 1 if all of them share it. */
export function blockOfInputs(codes: WeightCodes, inputAxis: 0 | 1): number {
  if (codes.form === 'blocks') return codes.stored.grid.blockSize;
  const { axis, blockSize } = codes.linear;
  return axis === inputAxis ? Math.max(1, blockSize) : 1;
}
