import { UnsupportedModelError } from '../../src/errors.js';
import type { TensorHandle } from '../../src/onnx/onnx-model.js';
import { bytesHandle, floatsHandle } from '../../src/onnx/tensor-handle.js';
import { readLinearCodes } from '../../src/quantisation/linear-codes.js';

const named = (name: string, handle: TensorHandle) => ({ name, handle });
const codesOf = (dataType: number, dims: number[], ...bytes: number[]) =>
  named('w', bytesHandle({ dataType, dims }, Uint8Array.from(bytes)));
const codes = codesOf(2, [2, 4], 0, 1, 2, 3, 4, 5, 6, 7);
const zeros = (dims: number[], values: number[]) =>
  named('z', bytesHandle({ dataType: 2, dims }, Uint8Array.from(values)));
const floats = (...values: number[]) =>
  named('s', floatsHandle({ dataType: 1, dims: [values.length] }, Float32Array.from(values)));

describe('linear codes', () => {
  it.each([
    [
      'one scale',
      { scales: floats(2), zeroPoints: zeros([], [1]), axis: 1, blockSize: 0 },
      [-2, 0, 2, 4, 6, 8, 10, 12],
    ],
    ['a scale per column', { scales: floats(1, 2, 3, 4), axis: 1, blockSize: 0 }, [0, 2, 6, 12, 4, 10, 18, 28]],
    [
      'a scale per column, and one zero point',
      { scales: floats(1, 2, 3, 4), zeroPoints: zeros([], [1]), axis: 1, blockSize: 0 },
      [-1, 0, 3, 8, 3, 8, 15, 24],
    ],
    [
      'a scale per row',
      { scales: floats(1, 10), zeroPoints: zeros([2], [0, 4]), axis: 0, blockSize: 0 },
      [0, 1, 2, 3, 0, 10, 20, 30],
    ],
    [
      'blocks along the rows',
      { scales: floats(1, 10, 100, 1000), axis: 1, blockSize: 2 },
      [0, 1, 20, 30, 400, 500, 6000, 7000],
    ],
    ['blocks down the columns', { scales: floats(1, 2, 3, 4), axis: 0, blockSize: 2 }, [0, 2, 6, 12, 4, 10, 18, 28]],
    [
      'a shorter last block',
      { scales: floats(1, 10, 100, 1000), axis: 1, blockSize: 3 },
      [0, 1, 2, 30, 400, 500, 600, 7000],
    ],
  ])('are decoded with %s', async (_, given, expected) => {
    expect([...(await readLinearCodes({ codes, ...given }))]).toEqual(expected);
  });

  it('are signed or unsigned, also with two codes in a byte', async () => {
    const one = { scales: floats(1), axis: 0, blockSize: 0 };
    const read = async (given: ReturnType<typeof codesOf>) => [...(await readLinearCodes({ codes: given, ...one }))];
    expect(await read(codesOf(22, [3], 0xf1, 0x08))).toEqual([1, -1, -8]);
    expect(await read(codesOf(21, [3], 0xf1, 0x08))).toEqual([1, 15, 8]);
    expect(await read(codesOf(3, [1], 255))).toEqual([-1]);
  });

  it('are refused if they are floats', async () => {
    const one = { codes: codesOf(17, [1], 1), scales: floats(1), axis: 0, blockSize: 0 };
    await expect(readLinearCodes(one)).rejects.toThrow(UnsupportedModelError);
  });
});
