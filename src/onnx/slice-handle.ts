import { OptionError, UnsupportedModelError } from '../errors.js';
import { findDataType } from './data-types.js';
import type { TensorHandle } from './onnx-model.js';
import { checkRange, describeShape, expectedByteLength } from './tensor-handle.js';

/** Most bytes of the source that one step of a sliced read loads. */
const STEP_BYTES = 8 * 2 ** 20;

/**
 * The tensor with only the indices `keep` of one axis, in the order given; nothing is read until it is needed. Reading
 * needs memory for the requested bytes plus at most 8 MiB of the source.
 * @throws UnsupportedModelError when elements are smaller than a byte. @throws OptionError when an index is out of
 *   range.
 */
export function sliceHandle(handle: TensorHandle, axis: number, keep: Int32Array): TensorHandle {
  const bits = findDataType(handle.dataType)?.bits ?? 0;
  if (bits % 8 !== 0 || bits === 0) {
    throw new UnsupportedModelError(
      `A tensor ${describeShape(handle)} packs several elements into a byte and cannot be cut by index.`,
    );
  }
  const axisLength = handle.dims[axis];
  if (axisLength === undefined) throw new OptionError(`A tensor ${describeShape(handle)} has no axis ${axis}.`);
  const outside = keep.find((index) => index < 0 || index >= axisLength);
  if (outside !== undefined) {
    throw new OptionError(`A tensor ${describeShape(handle)} has no index ${outside} on axis ${axis}.`);
  }
  const shape = { dataType: handle.dataType, dims: handle.dims.with(axis, keep.length) };
  const itemBytes = (handle.dims.slice(axis + 1).reduce((product, dim) => product * dim, 1) * bits) / 8;
  const cut: SlicedRows = { handle, keep: Int32Array.from(keep), itemBytes, rowBytes: axisLength * itemBytes };
  const byteLength = expectedByteLength(shape);
  return {
    ...shape,
    byteLength,
    cut: { from: handle, axis, keep: cut.keep },
    async read(range = { offset: 0, length: byteLength }) {
      checkRange(range, byteLength);
      if (range.length === 0) return new Uint8Array(0);
      const first = Math.floor(range.offset / itemBytes);
      const last = Math.ceil((range.offset + range.length) / itemBytes);
      const items = await readItems(cut, first, last);
      const skipped = range.offset - first * itemBytes;
      return skipped === 0 && items.byteLength === range.length ? items : items.slice(skipped, skipped + range.length);
    },
  };
}

/** An item is the contribution of one selected index per row; a row is one step of the axes before the cut one. */
interface SlicedRows {
  readonly handle: TensorHandle;
  readonly keep: Int32Array;
  readonly itemBytes: number;
  readonly rowBytes: number;
}

/** Items `first` to `last` (exclusive) of the result, counted over all rows. */
async function readItems(cut: SlicedRows, first: number, last: number): Promise<Uint8Array<ArrayBuffer>> {
  const out = new Uint8Array((last - first) * cut.itemBytes);
  for (let item = first; item < last; ) {
    const step = cut.rowBytes <= STEP_BYTES ? spanOfRows(cut, item, last) : spanOfRow(cut, item, last);
    const block = await cut.handle.read(step);
    const target = out.subarray((item - first) * cut.itemBytes, (step.end - first) * cut.itemBytes);
    gather(cut, item, { block, offset: step.offset, target });
    item = step.end;
  }
  return out;
}

/** The part of the source to read to make the items up to `end`. */
interface Step {
  readonly end: number;
  readonly offset: number;
  readonly length: number;
}

function spanOfRows({ keep, rowBytes }: SlicedRows, item: number, last: number): Step {
  const row = Math.floor(item / keep.length);
  const endRow = Math.min(row + Math.floor(STEP_BYTES / rowBytes), Math.ceil(last / keep.length));
  return { end: Math.min(endRow * keep.length, last), offset: row * rowBytes, length: (endRow - row) * rowBytes };
}

/** Items of one long row that are close enough for one read. */
function spanOfRow({ keep, itemBytes, rowBytes }: SlicedRows, item: number, last: number): Step {
  const row = Math.floor(item / keep.length);
  const endOfRow = Math.min(last, (row + 1) * keep.length);
  let low = keep[item % keep.length]!;
  let high = low;
  let end = item + 1;
  for (; end < endOfRow; end++) {
    const index = keep[end % keep.length]!;
    if ((Math.max(high, index) - Math.min(low, index) + 1) * itemBytes > STEP_BYTES) break;
    low = Math.min(low, index);
    high = Math.max(high, index);
  }
  return { end, offset: row * rowBytes + low * itemBytes, length: (high - low + 1) * itemBytes };
}

/** A piece of the source, where it begins, and where its items go. */
interface Transfer {
  readonly block: Uint8Array<ArrayBuffer>;
  readonly offset: number;
  readonly target: Uint8Array<ArrayBuffer>;
}

/** Copies items from `first` on until `target` is full, in the widest words that fit. */
function gather({ keep, itemBytes, rowBytes }: SlicedRows, first: number, { block, offset, target }: Transfer): void {
  const starts = [itemBytes, rowBytes, offset, block.byteOffset, target.byteOffset];
  const wordBytes = [4, 2, 1].find((width) => starts.every((start) => start % width === 0))!;
  const from = words(block, wordBytes);
  const to = words(target, wordBytes);
  const itemWords = itemBytes / wordBytes;
  let index = first % keep.length;
  let row = (Math.floor(first / keep.length) * rowBytes - offset) / wordBytes;
  for (let at = 0; at < to.length; index = 0, row += rowBytes / wordBytes) {
    for (; index < keep.length && at < to.length; index++, at += itemWords) {
      const start = row + keep[index]! * itemWords;
      // For short items `set` is slower than a loop.
      if (itemWords > 16) to.set(from.subarray(start, start + itemWords), at);
      else for (let i = 0; i < itemWords; i++) to[at + i] = from[start + i]!;
    }
  }
}

function words(bytes: Uint8Array<ArrayBuffer>, width: number): Uint8Array | Uint16Array | Uint32Array {
  const WordArray = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[width] ?? Uint8Array;
  return new WordArray(bytes.buffer, bytes.byteOffset, bytes.byteLength / width);
}

/** The original tensor of a slice, and bytes with the slice's elements at their positions. */
export interface FilledTensor {
  /** The entire original tensor. */
  readonly whole: TensorHandle;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Scatters `bytes`, elements of the slice `part`, into a copy of the tensor that `sliceHandle` cut it from, through nested slices. */
export async function fillCut(part: TensorHandle, bytes: Uint8Array<ArrayBuffer>): Promise<FilledTensor> {
  if (part.cut === undefined) return { whole: part, bytes };
  const { from, axis, keep, each } = part.cut;
  const filled = await from.read();
  const rowBytes = from.byteLength / from.dims.slice(0, axis).reduce((product, dim) => product * dim, 1);
  const itemBytes = rowBytes / from.dims[axis]!;
  const wordBytes = [4, 2, 1].find((width) => itemBytes % width === 0)!;
  const [source, target] = [words(bytes, wordBytes), words(filled, wordBytes)];
  const [rowWords, itemWords] = [rowBytes / wordBytes, itemBytes / wordBytes];
  const perTensor = each === undefined ? target.length : target.length / each.length;
  let at = 0;
  for (let row = 0; row < target.length; row += rowWords) {
    for (const index of each?.[Math.floor(row / perTensor)] ?? keep) {
      for (let word = row + index * itemWords; word < row + (index + 1) * itemWords; word += 1)
        target[word] = source[at++]!;
    }
  }
  return fillCut(from, filled);
}
