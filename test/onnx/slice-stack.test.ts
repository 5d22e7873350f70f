import { OptionError } from '../../src/errors.js';
import { fillCut, sliceHandle } from '../../src/onnx/slice-handle.js';
import { sliceStack } from '../../src/onnx/slice-stack.js';
import { bytesHandle } from '../../src/onnx/tensor-handle.js';

const UINT8 = 2;
/** Each number is `100 tensor + 10 row + column`. */
const stack = bytesHandle(
  { dataType: UINT8, dims: [2, 3, 4] },
  Uint8Array.from({ length: 24 }, (_, at) => 100 * Math.floor(at / 12) + 10 * (Math.floor(at / 4) % 3) + (at % 4)),
);
const keep = [Int32Array.of(0, 3), Int32Array.of(1, 2)];

it('keeps different indices of each tensor', async () => {
  const columns = sliceStack(stack, 2, keep);
  expect(columns.dims).toEqual([2, 3, 2]);
  expect([...(await columns.read())]).toEqual([0, 3, 10, 13, 20, 23, 101, 102, 111, 112, 121, 122]);
  const rows = sliceStack(stack, 1, [Int32Array.of(2), Int32Array.of(0)]);
  expect([...(await rows.read())]).toEqual([20, 21, 22, 23, 100, 101, 102, 103]);
});

it('reads a range across two tensors, and is sliced again', async () => {
  const columns = sliceStack(stack, 2, keep);
  expect([...(await columns.read({ offset: 5, length: 3 }))]).toEqual([23, 101, 102]);
  const again = sliceStack(columns, 1, [Int32Array.of(1), Int32Array.of(2)]);
  expect([...(await again.read())]).toEqual([10, 13, 121, 122]);
});

it('writes changed elements back to the whole', async () => {
  const cut = sliceStack(sliceHandle(stack, 1, Int32Array.of(0, 2)), 2, keep);
  const { whole, bytes } = await fillCut(cut, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
  expect(whole).toBe(stack);
  expect([...bytes]).toEqual([
    ...[1, 1, 2, 2, 10, 11, 12, 13, 3, 21, 22, 4],
    ...[100, 5, 6, 103, 110, 111, 112, 113, 120, 7, 8, 123],
  ]);
});

it('refuses lists of indices that do not fit', () => {
  expect(() => sliceStack(stack, 2, [Int32Array.of(0), Int32Array.of(1, 2)])).toThrow(OptionError);
  expect(() => sliceStack(stack, 2, [Int32Array.of(0)])).toThrow(/needs 2 lists of as many indices, got 1/);
  expect(() => sliceStack(stack, 2, [Int32Array.of(4), Int32Array.of(0)])).toThrow(/has no index 4/);
});
