import { UnsupportedModelError } from '../../src/errors.js';
import { bytesHandle } from '../../src/onnx/tensor-handle.js';
import { readLinearCodes } from '../../src/quantisation/linear-codes.js';

const codes = bytesHandle({ dataType: 2, dims: [2, 4] }, Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7));
const zeros = (dims: number[], values: number[]) => bytesHandle({ dataType: 2, dims }, Uint8Array.from(values));

describe('linear codes', () => {
  it.each([
    [
      'one scale in all',
      { scales: Float32Array.of(2), zero: zeros([], [1]), axis: 1, blockSize: 0 },
      [-2, 0, 2, 4, 6, 8, 10, 12],
    ],
    [
      'a scale a column',
      { scales: Float32Array.of(1, 2, 3, 4), zero: undefined, axis: 1, blockSize: 0 },
      [0, 2, 6, 12, 4, 10, 18, 28],
    ],
    [
      'a scale a column, and one zero point',
      { scales: Float32Array.of(1, 2, 3, 4), zero: zeros([], [1]), axis: 1, blockSize: 0 },
      [-1, 0, 3, 8, 3, 8, 15, 24],
    ],
    [
      'a scale a row',
      { scales: Float32Array.of(1, 10), zero: zeros([2], [0, 4]), axis: 0, blockSize: 0 },
      [0, 1, 2, 3, 0, 10, 20, 30],
    ],
    [
      'blocks along the rows',
      { scales: Float32Array.of(1, 10, 100, 1000), zero: undefined, axis: 1, blockSize: 2 },
      [0, 1, 20, 30, 400, 500, 6000, 7000],
    ],
    [
      'blocks down the columns',
      { scales: Float32Array.of(1, 2, 3, 4), zero: undefined, axis: 0, blockSize: 2 },
      [0, 2, 6, 12, 4, 10, 18, 28],
    ],
  ])('have %s', async (_, given, expected) => {
    expect([...(await readLinearCodes(codes, given))]).toEqual(expected);
  });

  it('are signed or not, in halves of a byte too', async () => {
    const one = { scales: Float32Array.of(1), zero: undefined, axis: 0, blockSize: 0 };
    const packed = Uint8Array.of(0xf1, 0x08);
    expect([...(await readLinearCodes(bytesHandle({ dataType: 22, dims: [3] }, packed), one))]).toEqual([1, -1, -8]);
    expect([...(await readLinearCodes(bytesHandle({ dataType: 21, dims: [3] }, packed), one))]).toEqual([1, 15, 8]);
    expect([...(await readLinearCodes(bytesHandle({ dataType: 3, dims: [1] }, Uint8Array.of(255)), one))]).toEqual([
      -1,
    ]);
  });

  it('are whole numbers', async () => {
    const floats = bytesHandle({ dataType: 17, dims: [1] }, Uint8Array.of(1));
    const one = { scales: Float32Array.of(1), zero: undefined, axis: 0, blockSize: 0 };
    await expect(readLinearCodes(floats, one)).rejects.toThrow(UnsupportedModelError);
  });
});
