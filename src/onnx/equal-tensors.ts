import type { TensorHandle } from './onnx-model.js';

/** Weights are compared in pieces of this size. */
const PIECE_BYTES = 32 * 2 ** 20;

/** Sampled elements that are compared first: different tensors usually differ in one of them. */
const SAMPLE_COUNT = 16;

/** Bytes of a sample: a multiple of every element's size. */
const SAMPLE_BYTES = 16;

/** Whether two tensors have the same type, shape and bytes. */
export async function isEqualTensor(a: TensorHandle, b: TensorHandle): Promise<boolean> {
  if (a === b) return true;
  if (a.dataType !== b.dataType || a.byteLength !== b.byteLength || a.dims.join() !== b.dims.join()) return false;
  for (const at of samples(a.byteLength)) {
    // Converting handles read only whole elements.
    const offset = at - (at % SAMPLE_BYTES);
    const range = { offset, length: Math.min(SAMPLE_BYTES, a.byteLength - offset) };
    if (!sameBytes(await a.read(range), await b.read(range))) return false;
  }
  for (let offset = 0; offset < a.byteLength; offset += PIECE_BYTES) {
    const range = { offset, length: Math.min(PIECE_BYTES, a.byteLength - offset) };
    const [left, right] = await Promise.all([a.read(range), b.read(range)]);
    if (!sameBytes(left, right)) return false;
  }
  return true;
}

/**
 * Whether a matrix equals another one transposed, byte for byte. Reads of the second are short and slow, so that it is
 * only for probably equal matrices.
 */
export async function isTransposed(a: TensorHandle, b: TensorHandle): Promise<boolean> {
  const [rows = 0, columns = 0] = a.dims;
  if (a.dataType !== b.dataType || a.dims.length !== 2 || b.dims.join() !== [columns, rows].join()) return false;
  const size = a.byteLength / (rows * columns);
  if (!Object.hasOwn(VIEWS, size)) return false;
  const readAt = async (handle: TensorHandle, at: number, count = 1) =>
    handle.read({ offset: at * size, length: count * size });
  for (const at of samples(rows * columns)) {
    const [row, column] = [Math.floor(at / columns), at % columns];
    if (!sameBytes(await readAt(a, at), await readAt(b, column * rows + row))) return false;
  }
  const rowsAtOnce = Math.max(1, Math.floor(PIECE_BYTES / (columns * size)));
  for (let row = 0; row < rows; row += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, rows - row);
    const piece = elementsOf(await readAt(a, row * columns, count * columns), size);
    for (let column = 0; column < columns; column++) {
      const other = elementsOf(await readAt(b, column * rows + row, count), size);
      for (let at = 0; at < count; at++) if (piece[at * columns + column] !== other[at]) return false;
    }
  }
  return true;
}

/** Bit patterns of elements of a size that `VIEWS` has. */
function elementsOf(bytes: Uint8Array<ArrayBuffer>, size: number): Uint8Array | Uint16Array | Uint32Array {
  const { buffer, byteOffset, byteLength } = byteOffsetFits(bytes, size) ? bytes : bytes.slice();
  return new VIEWS[size as keyof typeof VIEWS](buffer, byteOffset, byteLength / size);
}

const VIEWS = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array } as const;

const byteOffsetFits = ({ byteOffset }: Uint8Array, size: number): boolean => byteOffset % size === 0;

/** Sample offsets over a length, at different positions within rows. */
const samples = (length: number): number[] =>
  Array.from(
    { length: length === 0 ? 0 : SAMPLE_COUNT },
    (_, at) => Math.floor((length * (at + 0.5)) / SAMPLE_COUNT + at * 37) % length,
  );

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => a.every((byte, at) => byte === b[at]);
