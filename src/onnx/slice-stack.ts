import { OptionError } from '../errors.js';
import type { TensorHandle } from './onnx-model.js';
import { sliceHandle } from './slice-handle.js';
import { checkRange, describeShape, expectedByteLength } from './tensor-handle.js';

/**
 * A stack of tensors `[count, ..]`, each cut to its own indices of one axis, of equal counts; nothing is read until it
 * is needed.
 * @param axis of the stack, at least 1
 * @param keep By tensor of the stack.
 * @throws OptionError when their numbers differ, or an index is out of range.
 */
export function sliceStack(stack: TensorHandle, axis: number, keep: readonly Int32Array[]): TensorHandle {
  const [count = 0, ...dims] = stack.dims;
  const [{ length: width } = new Int32Array()] = keep;
  if (keep.length !== count || keep.some(({ length }) => length !== width))
    throw new OptionError(
      `A stack ${describeShape(stack)} needs ${count} lists of as many indices, got ${keep.map(({ length }) => length).join(', ')}.`,
    );
  const whole = { dataType: stack.dataType, dims };
  const itemLength = expectedByteLength(whole);
  const parts = keep.map((own, at) => {
    const part: TensorHandle = {
      ...whole,
      byteLength: itemLength,
      read: ({ offset, length } = { offset: 0, length: itemLength }) =>
        stack.read({ offset: at * itemLength + offset, length }),
    };
    return sliceHandle(part, axis - 1, own);
  });
  const shape = { dataType: stack.dataType, dims: stack.dims.with(axis, width) };
  const byteLength = expectedByteLength(shape);
  const partLength = byteLength / Math.max(1, count);
  return {
    ...shape,
    byteLength,
    cut: { from: stack, axis, keep: keep[0] ?? new Int32Array(), each: keep },
    async read(range = { offset: 0, length: byteLength }) {
      checkRange(range, byteLength);
      const bytes = new Uint8Array(range.length);
      const end = range.offset + range.length;
      for (let from = range.offset; from < end; ) {
        const part = Math.floor(from / partLength);
        const offset = from - part * partLength;
        const length = Math.min(partLength - offset, end - from);
        bytes.set(await parts[part]!.read({ offset, length }), from - range.offset);
        from += length;
      }
      return bytes;
    },
  };
}
