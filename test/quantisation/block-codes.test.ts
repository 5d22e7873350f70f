import { ModelFormatError, NumericalError } from '../../src/errors.js';
import { transposeMatrix } from '../../src/linalg/matrix-block.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';
import { type BlockGrid, dequantise, roundToNearest, storedScale } from '../../src/quantisation/block-codes.js';
import { CODEBOOKS, type CodebookName } from '../../src/quantisation/codebooks.js';
import { packBits, unpackBits } from '../../src/quantisation/pack-bits.js';
import { codesByteLength, dequantisedHandle, readCodes, storeCodes } from '../../src/quantisation/store-codes.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';

const GRIDS: readonly BlockGrid[] = ([2, 4, 8] as const).flatMap((bits) =>
  [16, 64].flatMap((blockSize) =>
    [true, false].map((hasZeroPoints): BlockGrid => ({ bits, blockSize, hasZeroPoints, scaleType: 'float32' })),
  ),
);

const named = GRIDS.map(
  (grid) =>
    [
      `${grid.bits} bits, blocks of ${grid.blockSize}, ${grid.hasZeroPoints ? 'zero points' : 'symmetric'}`,
      grid,
    ] as const,
);

/** 5 rows of 40: the last block of a row is padded. */
function someWeight(): Float32Array {
  const random = createRandom(1);
  return Float32Array.from({ length: 5 * 40 }, () => 0.3 + drawNormal(random));
}

describe('codes in blocks', () => {
  it.each(named)('are within half a step of the weights (%s)', (_, grid) => {
    const weight = someWeight();
    const codes = roundToNearest(weight, { grid, outCount: 5, inCount: 40 });
    const blocks = Math.ceil(40 / grid.blockSize);
    const top = 2 ** grid.bits - 1;
    dequantise(codes).forEach((value, at) => {
      const block = Math.floor(at / 40) * blocks + Math.floor((at % 40) / grid.blockSize);
      // The far end of the shorter side of a symmetric range is cut off, by a step at most.
      const steps = grid.hasZeroPoints ? 0.5 : 1;
      expect(Math.abs(value - weight[at]!)).toBeLessThanOrEqual(Math.abs(codes.scales[block]!) * steps + 1e-6);
    });
    expect(Math.max(...codes.codes)).toBeLessThanOrEqual(top);
  });

  it.each(named)('are read back as stored, and take the estimated bytes (%s)', async (_, grid) => {
    const codes = roundToNearest(someWeight(), { grid, outCount: 5, inCount: 40 });
    const stored = await storeCodes(codes, storeInMemory);
    expect(await readCodes(stored)).toEqual(codes);
    const bytes = [stored.codes, stored.scales, stored.zeroPoints].reduce(
      (sum, part) => sum + (part?.byteLength ?? 0),
      0,
    );
    expect(codesByteLength(grid, 5, 40)).toBe(bytes);
  });

  it.each(Object.keys(CODEBOOKS) as CodebookName[])('encode the nearest level of a codebook (%s)', async (codebook) => {
    const grid: BlockGrid = { bits: 4, blockSize: 8, hasZeroPoints: false, scaleType: 'float32', codebook };
    const weight = someWeight();
    const codes = roundToNearest(weight, { grid, outCount: 5, inCount: 40 });
    dequantise(codes).forEach((value, at) => {
      const scale = codes.scales[Math.floor(at / 8)]!;
      const least = Math.min(...CODEBOOKS[codebook].map((level) => Math.abs(level * scale - weight[at]!)));
      expect(Math.abs(value - weight[at]!)).toBeCloseTo(least, 6);
    });
    const stored = await storeCodes(codes, storeInMemory);
    expect(await readCodes(stored)).toEqual(codes);
    // The first of two codes has the high bits.
    expect((await stored.codes.read())[0]).toBe(codes.codes[0]! * 16 + codes.codes[1]!);
  });

  it('decode to a weight in either layout, also in ranges', async () => {
    const codes = roundToNearest(someWeight(), { grid: GRIDS[0]!, outCount: 5, inCount: 40 });
    const stored = await storeCodes(codes, storeInMemory);
    const rows = dequantise(codes);
    const handle = dequantisedHandle({ dataType: 1, dims: [40, 5] }, stored, 0);
    expect(new Float32Array((await handle.read()).buffer)).toEqual(transposeMatrix(rows, 5, 40));
    const piece = await dequantisedHandle({ dataType: 1, dims: [5, 40] }, stored, 1).read({ offset: 16, length: 8 });
    expect(new Float32Array(piece.buffer)).toEqual(rows.slice(4, 6));
  });

  it('are refused if a scale is NaN', async () => {
    const codes = roundToNearest(someWeight(), { grid: GRIDS[0]!, outCount: 5, inCount: 40 });
    codes.scales[4] = NaN;
    const stored = await storeCodes(codes, storeInMemory);
    await expect(readCodes(stored)).rejects.toThrow(ModelFormatError);
    await expect(readCodes(stored)).rejects.toThrow(/^the scale of a block in row 1 of a weight of 5 rows is NaN/);
  });

  it('have scales that are not zero, rounded to their type', () => {
    const grid: BlockGrid = { bits: 4, blockSize: 16, hasZeroPoints: true, scaleType: 'float16' };
    const codes = roundToNearest(new Float32Array(16), { grid, outCount: 1, inCount: 16 });
    expect(codes.scales[0]).toBe(1);
    expect([...dequantise(codes)]).toEqual(new Array(16).fill(0));
    expect(storedScale(0.1, 'float16')).toBe(0.0999755859375);
  });

  it.each([NaN, Infinity])('cannot be made of %d', (value) => {
    const weight = someWeight();
    weight[50] = value;
    const make = () => roundToNearest(weight, { grid: GRIDS[0]!, outCount: 5, inCount: 40 });
    expect(make).toThrow(NumericalError);
    expect(make).toThrow(/^block 0 of row 1 would have the scale/);
  });

  it('cannot have a scale beyond its type', () => {
    const grid: BlockGrid = { bits: 4, blockSize: 16, hasZeroPoints: false, scaleType: 'float16' };
    const weight = new Float32Array(16).fill(1e6);
    expect(() => roundToNearest(weight, { grid, outCount: 1, inCount: 16 })).toThrow(/float16 scale/);
  });
});

describe('packed bits', () => {
  it('are stored lowest first, each row from a new byte', () => {
    expect([...packBits(Uint8Array.of(1, 2, 3, 4, 5, 6), 4, 3)]).toEqual([0x21, 0x03, 0x54, 0x06]);
    expect([...unpackBits(Uint8Array.of(0x21, 0x03, 0x54, 0x06), 4, 3)]).toEqual([1, 2, 3, 4, 5, 6]);
  });
});
