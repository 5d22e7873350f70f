import type { TensorHandle } from '../onnx/onnx-model.js';
import { type BlockGrid, type KnownScales, storedScale } from './block-codes.js';
import { blockOfInputs, quantisedSource, readBlockScales, type WeightCodes } from './coded-handle.js';

/**
 * Orders the remaining inputs of a row so that as many blocks as fit keep their own inputs, and so their scales: those
 * with the most remaining inputs. The inputs of the other blocks fill them up.
 * @param keep Inputs that stay, ascending.
 * @returns places in `keep`, in their new order
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
  const hosts = new Set(byCount.slice(0, Math.floor(keep.length / blockSize)));
  const others = [...members].flatMap(([block, inputs]) => (hosts.has(block) ? [] : inputs));
  const filled = [...members].flatMap(([block, inputs]) =>
    hosts.has(block) ? [...inputs, ...others.splice(0, blockSize - inputs.length)] : [],
  );
  return Int32Array.from([...filled, ...others]);
}

/** Codes of an entire weight, and what is left of its rows and inputs, in their order. */
export interface CutCodes {
  readonly codes: WeightCodes;
  /** Absent: all. */
  readonly rows?: Int32Array | undefined;
  readonly inputs?: Int32Array | undefined;
}

/** The codes that a weight was cut from; undefined where it has none, or replaced them. */
export function codesBeforeCut(handle: TensorHandle, inputAxis: 0 | 1): CutCodes | undefined {
  const own = quantisedSource(handle);
  if (own !== undefined) return own.isTaken ? undefined : { codes: own.codes };
  if (handle.cut === undefined) return undefined;
  const { from, axis, keep } = handle.cut;
  const before = codesBeforeCut(from, inputAxis);
  const side = axis === inputAxis ? 'inputs' : 'rows';
  return before && { ...before, [side]: before[side] ? keep.map((at) => before[side]![at]!) : keep };
}

/** Inputs that stay of a weight whose blocks were cut, and the size of those; undefined where nothing is cut inside blocks. */
export function cutInputs(handle: TensorHandle, inputAxis: 0 | 1) {
  const { codes, inputs } = codesBeforeCut(handle, inputAxis) ?? {};
  if (codes === undefined || inputs === undefined) return undefined;
  // With explicit block indices, inputs are in no block order.
  if (codes.form === 'blocks' && codes.stored.groups !== undefined) return undefined;
  const blockSize = blockOfInputs(codes, inputAxis);
  return blockSize > 1 ? { keep: inputs, blockSize } : undefined;
}

/**
 * The scales that most of each block's inputs had before they were cut.
 * @returns undefined where the grid lacks levels that the codes may stand for
 */
export async function scalesBeforeCut(
  { codes, rows, inputs }: CutCodes,
  form: { readonly grid: BlockGrid; readonly inputAxis: 0 | 1 },
): Promise<KnownScales | undefined> {
  const whole = await readBlockScales(codes, form);
  if (whole === undefined) return undefined;
  const { perRow, scales, zeroPoints } = whole;
  const hosts = perRow > 1 && inputs !== undefined ? sourceBlocksOf(inputs, form.grid.blockSize) : undefined;
  const middle = 2 ** (form.grid.bits - 1);
  return (row, block) => {
    const own = perRow === 1 ? 0 : (hosts?.[block] ?? block);
    const at = (rows?.[row] ?? row) * perRow + own;
    return { scale: storedScale(scales[at]!, form.grid.scaleType), zeroPoint: zeroPoints?.[at] ?? middle };
  };
}

/** By block of a cut row: the block of entire rows that most of its inputs lay in. */
function sourceBlocksOf(inputs: Int32Array, blockSize: number): Int32Array {
  return Int32Array.from({ length: Math.ceil(inputs.length / blockSize) }, (_, block) => {
    const counts = new Map<number, number>();
    for (const input of inputs.subarray(block * blockSize, (block + 1) * blockSize)) {
      const host = Math.floor(input / blockSize);
      counts.set(host, (counts.get(host) ?? 0) + 1);
    }
    return [...counts].reduce((best, entry) => (entry[1] > best[1] ? entry : best))[0];
  });
}
