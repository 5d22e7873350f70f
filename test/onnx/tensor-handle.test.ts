import { ModelFormatError, NumericalError, OptionError, UnsupportedModelError } from '../../src/errors.js';
import { DATA_TYPES, findDataType, tensorByteLength } from '../../src/onnx/data-types.js';
import { decodeFloats, encodeFloats, isFloatType, readFloat32 } from '../../src/onnx/float-encoding.js';
import { bytesSource } from '../../src/onnx/memory-folder.js';
import { normaliseRelativePath } from '../../src/onnx/relative-path.js';
import { sliceHandle } from '../../src/onnx/slice-handle.js';
import { bytesHandle, floatsHandle, sourceHandle } from '../../src/onnx/tensor-handle.js';
import { seededRandom } from './small-model.js';

const FLOAT16 = 10;
const BFLOAT16 = 16;

describe('data types', () => {
  it.each(DATA_TYPES)('$name has a width and a size', (type) => {
    expect(findDataType(type.number)).toBe(type);
    expect(tensorByteLength(type, [3, 5])).toBe(Math.ceil((15 * type.bits) / 8));
    expect(tensorByteLength(type, [])).toBe(Math.ceil(type.bits / 8));
  });
});

/** The value of a small float by its definition. */
function valueByDefinition(
  bits: number,
  { exponentBits, fractionBits }: { exponentBits: number; fractionBits: number },
): number {
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = bits >>> (exponentBits + fractionBits) ? -1 : 1;
  const exponent = (bits >>> fractionBits) & (2 ** exponentBits - 1);
  const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

describe.each([
  ['float16', FLOAT16, { exponentBits: 5, fractionBits: 10 }],
  ['bfloat16', BFLOAT16, { exponentBits: 8, fractionBits: 7 }],
] as const)('%s', (_, type, format) => {
  const all = Uint16Array.from({ length: 65536 }, (__, bits) => bits);
  const values = decodeFloats(type, new Uint8Array(all.buffer));

  it('decodes every pattern to its value', () => {
    expect(values.findIndex((value, bits) => !Object.is(value, valueByDefinition(bits, format)))).toBe(-1);
  });

  it('encodes every value back to its pattern', () => {
    const again = new Uint16Array(encodeFloats(type, values).buffer);
    const differs = (bits: number) =>
      Number.isNaN(values[bits]) ? !Number.isNaN(valueByDefinition(again[bits]!, format)) : again[bits] !== bits;
    expect(all.findIndex(differs)).toBe(-1);
  });

  it('rounds to nearest, ties to even, from float32 and from float64', () => {
    const positive = values.subarray(0, values.indexOf(Infinity));
    const middles = Float64Array.from(positive.subarray(1), (value, below) => (value + positive[below]!) / 2);
    const bitsOf = (numbers: Float32Array | Float64Array) => new Uint16Array(encodeFloats(type, numbers).buffer);
    const even = Uint16Array.from(middles, (_, below) => below + (below & 1));
    expect(bitsOf(middles)).toEqual(even);
    expect(bitsOf(Float32Array.from(middles))).toEqual(even);
    expect(bitsOf(middles.map((middle) => -middle))).toEqual(even.map((bits) => bits | 0x8000));
    // Too close to the middle for a float32: rounding twice would end on the even neighbour.
    expect(bitsOf(middles.map((middle) => middle * (1 + 2 ** -40)))).toEqual(even.map((_, below) => below + 1));
    expect(bitsOf(middles.map((middle) => middle * (1 - 2 ** -40)))).toEqual(even.map((_, below) => below));
  });

  it('refuses values that would become infinite, and names them', () => {
    const largest = values[values.indexOf(Infinity) - 1]!;
    const step = largest - values[values.indexOf(Infinity) - 2]!;
    expect(decodeFloats(type, encodeFloats(type, Float64Array.of(largest + step * 0.499)))[0]).toBe(largest);
    const tooLarge = -(largest + step / 2);
    expect(() => encodeFloats(type, Float64Array.of(1, tooLarge))).toThrow(NumericalError);
    expect(() => encodeFloats(type, Float64Array.of(1, tooLarge))).toThrow(`Value ${tooLarge} at position 1`);
  });
});

describe('floats', () => {
  it('float and double keep their values', async () => {
    for (const dataType of [1, 11]) {
      const handle = floatsHandle({ dataType, dims: [3] }, Float32Array.of(0.1, -0, Infinity));
      expect(await readFloat32(handle)).toEqual(Float32Array.of(0.1, -0, Infinity));
    }
    expect(() => encodeFloats(1, Float64Array.of(1e39))).toThrow(NumericalError);
  });

  it('refuses other types and half elements', () => {
    expect(() => decodeFloats(7, new Uint8Array(8))).toThrow(UnsupportedModelError);
    expect(() => decodeFloats(1, new Uint8Array(7))).toThrow(ModelFormatError);
    expect(DATA_TYPES.filter(({ number }) => isFloatType(number)).map(({ name }) => name)).toEqual([
      'float',
      'float16',
      'double',
      'bfloat16',
    ]);
  });
});

describe('handles', () => {
  const shape = { dataType: 2, dims: [2, 3] };
  const bytes = Uint8Array.of(9, 9, 1, 2, 3, 4, 5, 6);

  it('read the whole or a range, a new copy each time', async () => {
    for (const handle of [bytesHandle(shape, bytes.subarray(2)), sourceHandle(shape, bytesSource('s', bytes), 2)]) {
      const first = await handle.read();
      expect([...first]).toEqual([1, 2, 3, 4, 5, 6]);
      first.fill(0);
      expect([...(await handle.read({ offset: 1, length: 2 }))]).toEqual([2, 3]);
      await expect(handle.read({ offset: 5, length: 2 })).rejects.toThrow(ModelFormatError);
      await expect(handle.read({ offset: -1, length: 2 })).rejects.toThrow(ModelFormatError);
      await expect(handle.read({ offset: 0.5, length: 1 })).rejects.toThrow(ModelFormatError);
    }
  });

  it('refuse bytes that do not fit the shape', () => {
    expect(() => bytesHandle(shape, bytes)).toThrow(ModelFormatError);
    expect(() => bytesHandle({ dataType: 1, dims: [-1] }, bytes)).toThrow(ModelFormatError);
  });
});

describe('sliceHandle', () => {
  function sliced(dims: readonly number[], dataType: number, { axis, keep }: { axis: number; keep: number[] }) {
    const width = findDataType(dataType)!.bits / 8;
    const random = seededRandom(3);
    const bytes = Uint8Array.from({ length: dims.reduce((a, b) => a * b, width) }, () => random() * 256);
    const inner = dims.slice(axis + 1).reduce((a, b) => a * b, width);
    const outer = dims.slice(0, axis).reduce((a, b) => a * b, 1);
    const expected: number[] = [];
    for (let row = 0; row < outer; row++) {
      for (const index of keep) {
        const start = (row * dims[axis]! + index) * inner;
        expected.push(...bytes.subarray(start, start + inner));
      }
    }
    return { handle: sliceHandle(bytesHandle({ dataType, dims }, bytes), axis, Int32Array.from(keep)), expected };
  }

  const cases = [
    { dims: [5, 7], axis: 0, keep: [0, 2, 3] },
    { dims: [5, 7], axis: 1, keep: [6, 1, 1] },
    { dims: [3, 4, 5], axis: 1, keep: [3] },
    { dims: [6], axis: 0, keep: [] },
    { dims: [40, 30], axis: 0, keep: [39, 0] },
  ];

  it.each(cases.flatMap((one) => [1, 2, 10, 15].map((dataType) => ({ ...one, dataType }))))(
    '$dims axis $axis keeps $keep, type $dataType',
    async ({ dims, axis, keep, dataType }) => {
      const { handle, expected } = sliced(dims, dataType, { axis, keep });
      expect(handle.dims).toEqual(dims.with(axis, keep.length));
      expect([...(await handle.read())]).toEqual(expected);
      for (let offset = 0; offset < expected.length; offset += 11) {
        const length = Math.min(13, expected.length - offset);
        expect([...(await handle.read({ offset, length }))]).toEqual(expected.slice(offset, offset + length));
      }
    },
  );

  it('reads the source in ranges of at most 8 MiB', async () => {
    const dims = [3, 2 ** 22];
    let longest = 0;
    const source = {
      dataType: 1,
      dims,
      byteLength: 12 * 2 ** 22,
      read: async (range?: { readonly offset: number; readonly length: number }) => {
        longest = Math.max(longest, range!.length);
        return new Uint8Array(range!.length).fill((range!.offset >> 22) & 255);
      },
    };
    const handle = sliceHandle(
      source,
      1,
      Int32Array.from({ length: 2 ** 12 }, (_, i) => i * 1024),
    );
    const bytes = await handle.read();
    expect(bytes.byteLength).toBe(3 * 4 * 2 ** 12);
    expect(longest).toBeLessThanOrEqual(8 * 2 ** 20);
  });

  it('refuses packed types, and indices and axes out of range', () => {
    const packed = bytesHandle({ dataType: 22, dims: [4] }, new Uint8Array(2));
    expect(() => sliceHandle(packed, 0, Int32Array.of(0))).toThrow(UnsupportedModelError);
    const whole = bytesHandle({ dataType: 2, dims: [4] }, new Uint8Array(4));
    expect(() => sliceHandle(whole, 0, Int32Array.of(4))).toThrow(/no index 4/);
    expect(() => sliceHandle(whole, 1, Int32Array.of(0))).toThrow(OptionError);
  });
});

it.each([
  ['a/b', 'a/b'],
  ['./a//b/.', 'a/b'],
  ['a\\b', 'a/b'],
  ['..a/b..', '..a/b..'],
  ['..', undefined],
  ['a/..', undefined],
  ['', undefined],
  ['/', undefined],
  ['~/x', '~/x'],
])('normaliseRelativePath(%j) is %j', (path, expected) => {
  expect(normaliseRelativePath(path)).toBe(expected);
});
