import { multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { createRandom, drawNormal, drawPermutation } from '../../src/linalg/random.js';
import { readFloat32 } from '../../src/onnx/float-encoding.js';
import type { TensorHandle } from '../../src/onnx/onnx-model.js';
import { sliceHandle } from '../../src/onnx/slice-handle.js';
import { type BlockGrid, dequantise, roundToNearest } from '../../src/quantisation/block-codes.js';
import { type CodedHandle, exactCodes, gridForCodes, type WeightCodes } from '../../src/quantisation/coded-handle.js';
import { completeBlocks } from '../../src/quantisation/complete-blocks.js';
import { factoriseFeedback, roundWithFeedback } from '../../src/quantisation/error-feedback.js';
import { codesBeforeCut, cutInputs, orderKeepingBlocks, scalesBeforeCut } from '../../src/quantisation/keep-blocks.js';
import { readLinearCodes } from '../../src/quantisation/linear-codes.js';
import { linearOf } from '../../src/quantisation/linear-of-blocks.js';
import { dequantisedHandle, storeCodes } from '../../src/quantisation/store-codes.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';

describe('orderKeepingBlocks', () => {
  it('keeps blocks with the most remaining inputs, and fills them up', () => {
    const keep = Int32Array.from([0, 2, 3, 5, 8, 9, 10, 11, 13]);
    // Of blocks of four: three of the first, one of the second, four of the third, one of the fourth.
    expect([...orderKeepingBlocks(keep, 4)].map((at) => keep[at]!)).toEqual([0, 2, 3, 5, 8, 9, 10, 11, 13]);
    const others = Int32Array.from([0, 4, 5, 6, 8, 9, 12, 13, 14, 15]);
    expect([...orderKeepingBlocks(others, 4)].map((at) => others[at]!)).toEqual([4, 5, 6, 0, 12, 13, 14, 15, 8, 9]);
  });

  it('contains every input once, and keeps as many inputs per block as possible', () => {
    const random = createRandom(5);
    for (const count of [64, 70, 95]) {
      const keep = drawPermutation(random, 96).slice(0, count).sort();
      const order = orderKeepingBlocks(keep, 16);
      expect([...order].sort((a, b) => a - b)).toEqual([...keep.keys()]);
      const sizes = Array.from({ length: 6 }, (_, block) => keep.filter((input) => input >> 4 === block).length);
      const most = sizes.sort((a, b) => b - a).slice(0, count >> 4);
      const own = Array.from({ length: count >> 4 }, (_, block) => {
        const inputs = [...order.subarray(block * 16, block * 16 + 16)].map((at) => keep[at]! >> 4);
        return Math.max(...inputs.map((host) => inputs.filter((other) => other === host).length));
      });
      expect(own.sort((a, b) => b - a)).toEqual(most);
    }
  });
});

it('keeps blocks whole only in their order, with a shorter block last', () => {
  // Of ten inputs in blocks of four, the last block has two.
  const blocksOf = (...keep: number[]) => completeBlocks(Int32Array.from(keep), 10, 4);
  expect(blocksOf(4, 5, 6, 7, 0, 1, 2, 3)).toEqual(Int32Array.of(1, 0));
  expect(blocksOf(0, 1, 2, 3, 8, 9)).toEqual(Int32Array.of(0, 2));
  expect(blocksOf(8, 9, 0, 1, 2, 3)).toBeUndefined();
  expect(blocksOf(0, 1, 2, 4, 5, 6, 7)).toBeUndefined();
  expect(blocksOf(1, 0, 2, 3)).toBeUndefined();
});

const [OUT, IN] = [12, 96];
const FORMS = ['blocks', 'uint4', 'int4', 'transposed uint4'] as const;

/** A weight `[12, 96]` of codes in blocks of 16. */
async function coded(form: (typeof FORMS)[number]) {
  const random = createRandom(2);
  const weight = Float32Array.from({ length: OUT * IN }, () => drawNormal(random));
  const grid: BlockGrid = { bits: 4, blockSize: 16, hasZeroPoints: form !== 'int4', scaleType: 'float32' };
  const stored = await storeCodes(roundToNearest(weight, { grid, outCount: OUT, inCount: IN }), storeInMemory);
  const inputAxis = form === 'transposed uint4' ? 0 : 1;
  const names = { codes: 'w', scales: 's', zeroPoints: 'z' };
  const type = form === 'int4' ? 'int4' : 'uint4';
  const codes: WeightCodes =
    form === 'blocks' ? { form, stored } : { form: 'constants', linear: linearOf(stored, { type, inputAxis, names }) };
  const shape = { dataType: 1, dims: inputAxis === 1 ? [OUT, IN] : [IN, OUT] };
  const handle: CodedHandle = { ...dequantisedHandle(shape, stored, inputAxis), coded: { codes } };
  return { handle, inputAxis: inputAxis as 0 | 1, codes };
}

/** Rows and inputs of a weight. */
const cut = (handle: TensorHandle, inputAxis: 0 | 1, rows: Int32Array, inputs: Int32Array) =>
  sliceHandle(sliceHandle(handle, 1 - inputAxis, rows), inputAxis, inputs);

const rowsOf = async (handle: TensorHandle, inputAxis: 0 | 1): Promise<Float32Array> => {
  const values = await readFloat32(handle);
  const [height, width] = handle.dims as [number, number];
  if (inputAxis === 1) return values;
  return Float32Array.from(values, (_, at) => values[(at % height) * width + Math.floor(at / height)]!);
};

describe.each(FORMS)('a weight in %s', (form) => {
  const rows = Int32Array.from([0, 1, 3, 4, 6, 7, 9, 11]);
  const keep = drawPermutation(createRandom(8), IN).slice(0, 64).sort();

  it('keeps its scales and most codes after rows and inputs were removed', async () => {
    const { handle, inputAxis, codes } = await coded(form);
    const inputs = orderKeepingBlocks(keep, 16).map((at) => keep[at]!);
    const weight = cut(handle, inputAxis, rows, inputs);
    expect(cutInputs(weight, inputAxis)).toEqual({ keep: inputs, blockSize: 16 });
    expect(exactCodes(weight, inputAxis)).toBeUndefined();
    const grid = gridForCodes(codes, inputAxis, 64);
    const known = await scalesBeforeCut(codesBeforeCut(weight, inputAxis)!, { grid, inputAxis });
    const values = await rowsOf(weight, inputAxis);
    const shape = { grid, outCount: 8, inCount: 64 };
    const errorsOf = (found: Float32Array) => found.map((value, at) => Math.abs(value - values[at]!));
    const again = errorsOf(dequantise(roundToNearest(values, shape)));
    const settled = errorsOf(dequantise(roundToNearest(values, { ...shape, known })));
    const sum = (errors: Float32Array) => errors.reduce((all, error) => all + error ** 2, 0);
    expect(sum(settled)).toBeLessThan(0.7 * sum(again));
    // Most inputs of a block keep their scale and codes, unless a new scale is better for the whole block.
    const exactOf = (errors: Float32Array) => errors.filter((error) => error === 0).length;
    expect(exactOf(settled)).toBeGreaterThan(0.5 * settled.length);
    expect(exactOf(settled)).toBeGreaterThan(1.2 * exactOf(again));
  });

  it('is unchanged by rounding with error feedback on its own scales', async () => {
    const { handle, inputAxis, codes } = await coded(form);
    const grid = gridForCodes(codes, inputAxis, IN);
    const whole = cut(
      handle,
      inputAxis,
      rows,
      Int32Array.from({ length: IN }, (_, at) => at),
    );
    const known = await scalesBeforeCut(codesBeforeCut(whole, inputAxis)!, { grid, inputAxis });
    const values = await rowsOf(whole, inputAxis);
    const causes = Float64Array.from({ length: IN * 24 }, (_, at) => Math.sin(at * at));
    const matrix = multiplyTransposed(causes, causes, { rows: IN, columns: IN, inner: 24 });
    const multiply = multiplyTransposed;
    const factor = await factoriseFeedback({ matrix, size: IN }, { dampening: 0.01, multiply });
    const problem = { weight: values, outCount: 8, inCount: IN, grid, known };
    expect(dequantise(await roundWithFeedback(problem, factor, multiply))).toEqual(values);
  });

  it('keeps its codes if whole blocks are removed', async () => {
    const { handle, inputAxis } = await coded(form);
    const blocks = (...indices: number[]) => Int32Array.from(indices.flatMap((block) => rangeOf(16 * block, 16)));
    const weight = cut(handle, inputAxis, rows, blocks(0, 2, 5));
    const exact = exactCodes(weight, inputAxis)!;
    const values =
      exact.form === 'blocks'
        ? await readFloat32(dequantisedHandle({ dataType: 1, dims: [8, 48] }, exact.stored, 1))
        : await readLinearCodes(exact.linear);
    expect(Float32Array.from(values)).toEqual(Float32Array.from(await readFloat32(weight)));
    expect(exactCodes(cut(handle, inputAxis, rows, Int32Array.from(rangeOf(8, 32))), inputAxis)).toBeUndefined();
  });
});

const rangeOf = (start: number, length: number): number[] => Array.from({ length }, (_, at) => start + at);
