import { transposeMatrix } from '../../src/linalg/matrix-block.js';
import { decodeFloats, encodeFloats } from '../../src/onnx/float-encoding.js';
import { decodeRows, encodeRows, rowParts } from '../../src/quantisation/row-parts.js';

/** One tile and part of another along both axes. */
const [OUT, IN] = [37, 41];
const PARTS = [
  [0, 5],
  [5, 36],
  [36, 37],
] as const;
const FLOAT_TYPES = { float: 1, float16: 10, double: 11, bfloat16: 16 };

const weight = Float32Array.from({ length: OUT * IN }, (_, at) => Math.fround(Math.sin(at) * 3));

describe.each(Object.entries(FLOAT_TYPES))('rows of a weight in %s', (_, dataType) => {
  it.each([0, 1] as const)('are read and written in parts as at once, input axis %i', (inputAxis) => {
    const layout = { inputAxis, inCount: IN, outCount: OUT, dataType };
    const bytes = encodeFloats(dataType, inputAxis === 1 ? weight : transposeMatrix(weight, OUT, IN));
    const written = new Uint8Array(bytes.length);
    for (const [first, last] of PARTS) {
      const values = decodeRows(bytes, layout, [first, last]);
      const stored = decodeFloats(dataType, encodeFloats(dataType, weight));
      expect(values).toEqual(stored.subarray(first * IN, last * IN));
      encodeRows(written, layout, { first, values });
    }
    expect(written).toEqual(bytes);
  });
});

it('divides a weight into parts of at most 64 MiB of floats, or single rows', () => {
  const [outCount, inCount] = [32000, 4096];
  const parts = rowParts({ outCount, inCount });
  expect(parts[0]![0]).toBe(0);
  expect(parts.at(-1)![1]).toBe(outCount);
  for (const [at, [first, last]] of parts.entries()) {
    expect(first).toBe(parts[at - 1]?.[1] ?? 0);
    expect((last - first) * inCount * Float32Array.BYTES_PER_ELEMENT).toBeLessThanOrEqual(64 * 2 ** 20);
  }
  expect(rowParts({ outCount: 2, inCount: 2 ** 25 })).toEqual([
    [0, 1],
    [1, 2],
  ]);
});
