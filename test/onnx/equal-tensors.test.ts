import { isEqualTensor } from '../../src/onnx/equal-tensors.js';
import type { TensorHandle } from '../../src/onnx/onnx-model.js';

/** A tensor of 40 elements that allows reads of whole elements only, like converted ones. */
function handleOf(bytes: Uint8Array<ArrayBuffer>, dataType: number): TensorHandle {
  const size = bytes.length / 40;
  return {
    dataType,
    dims: [40],
    byteLength: bytes.length,
    async read({ offset, length } = { offset: 0, length: bytes.length }) {
      expect([offset % size, length % size]).toEqual([0, 0]);
      return bytes.slice(offset, offset + length);
    },
  };
}

describe.each([
  ['float16', 10, 2],
  ['float', 1, 4],
  ['int64', 7, 8],
])('tensors of %s', (_, dataType, size) => {
  const bytes = Uint8Array.from({ length: 40 * size }, (__, at) => at % 251);

  it('are equal if all bytes are', async () => {
    expect(await isEqualTensor(handleOf(bytes, dataType), handleOf(bytes.slice(), dataType))).toBe(true);
  });

  it('differ by any byte', async () => {
    const equal: number[] = [];
    for (let at = 0; at < bytes.length; at++) {
      const other = bytes.slice();
      other[at]! ^= 1;
      if (await isEqualTensor(handleOf(bytes, dataType), handleOf(other, dataType))) equal.push(at);
    }
    expect(equal).toEqual([]);
  });
});
