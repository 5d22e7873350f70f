import type { TensorHandle } from '../onnx/onnx-model.js';
import { type BlockGrid, type KnownScales, storedScale } from './block-codes.js';
import { blockOfInputs, quantisedSource, readBlockScales, type WeightCodes } from './coded-handle.js';

/**
 * Orders the remaining inputs of a row so that the blocks with the most remaining inputs keep them, and so their scales.
 * The inputs of the other blocks fill these up.
 * @param keep Remaining inputs, ascending.
 * @returns indices into `keep`, in their new order
 */
export function orderKeepingBlocks(keep: Int32Array, blockSize: number): Int32Array {
  const members = new Map<number, number[]>();
  for (const [at, input] of keep.entries()) {
    const block = Math.floor(input / blockSize);
    const inputs = members.get(block) ?? [];
    members.set(block, inputs);
    inputs.push(at);
  }
  const byCount = [...members.keys()].sort((a, b) => members.get(b)!.length - members.get(a)!.length || a - b);
  const remaining = new Set(byCount.slice(0, Math.floor(keep.length / blockSize)));
  const others = [...members].flatMap(([block, inputs]) => (remaining.has(block) ? [] : inputs));
  const filled = [...members].flatMap(([block, inputs]) =>
    remaining.has(block) ? [...inputs, ...others.splice(0, blockSize - inputs.length)] : [],
  );
  return Int32Array.from([...filled, ...others]);
}

/** Codes of an entire weight, and its remaining rows and inputs, in order. */
export interface CutCodes {
  readonly codes: WeightCodes;
  /** Absent: all. */
  readonly rows?: Int32Array | undefined;
  readonly inputs?: Int32Array | undefined;
}

/** Codes that a weight was cut from; undefined for floats, also if these replaced codes. */
export function codesBeforeCut(handle: TensorHandle, inputAxis: 0 | 1): CutCodes | undefined {
  const own = quantisedSource(handle);
  if (own !== undefined) return own.isOriginal ? undefined : { codes: own.codes };
  if (handle.cut === undefined) return undefined;
  const { from, axis, keep } = handle.cut;
  const before = codesBeforeCut(from, inputAxis);
  const side = axis === inputAxis ? 'inputs' : 'rows';
  return before && { ...before, [side]: before[side] ? keep.map((at) => before[side]![at]!) : keep };
}

/** Remaining inputs of a weight whose blocks were cut, and the block size; undefined if no inputs of blocks were cut. */
export function cutInputs(handle: TensorHandle, inputAxis: 0 | 1) {
  const { codes, inputs } = codesBeforeCut(handle, inputAxis) ?? {};
  if (codes === undefined || inputs === undefined) return undefined;
  // With explicit block indices, inputs are in no block order.
  if (codes.form === 'blocks' && codes.stored.groups !== undefined) return undefined;
  const blockSize = blockOfInputs(codes, inputAxis);
  return blockSize > 1 ? { keep: inputs, blockSize } : undefined;
}

/**
 * Scales of blocks before a cut: each block gets the scale that most of its inputs had.
 * @returns undefined if the grid lacks levels of the codes
 */
export async function scalesBeforeCut(
  { codes, rows, inputs }: CutCodes,
  form: { readonly grid: BlockGrid; readonly inputAxis: 0 | 1 },
): Promise<KnownScales | undefined> {
  const whole = await readBlockScales(codes, form);
  if (whole === undefined) return undefined;
  const { perRow, scales, zeroPoints } = whole;
  const sources = perRow > 1 && inputs !== undefined ? sourceBlocksOf(inputs, form.grid.blockSize) : undefined;
  const middle = 2 ** (form.grid.bits - 1);
  return (row, block) => {
    const own = perRow === 1 ? 0 : (sources?.[block] ?? block);
    const at = (rows?.[row] ?? row) * perRow + own;
    return { scale: storedScale(scales[at]!, form.grid.scaleType), zeroPoint: zeroPoints?.[at] ?? middle };
  };
}

/** For each block of a cut row, the block of the entire row that most of its inputs are from. */
function sourceBlocksOf(inputs: Int32Array, blockSize: number): Int32Array {
  return Int32Array.from({ length: Math.ceil(inputs.length / blockSize) }, (_, block) => {
    const counts = new Map<number, number>();
    for (const input of inputs.subarray(block * blockSize, (block + 1) * blockSize)) {
      const source = Math.floor(input / blockSize);
      counts.set(source, (counts.get(source) ?? 0) + 1);
    }
    return [...counts].reduce((best, entry) => (entry[1] > best[1] ? entry : best))[0];
  });
}
