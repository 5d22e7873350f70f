import { createShrinkingInverse } from '../../src/importance/shrinking-inverse.js';
import { choleskyInPlace, invertFactorInPlace, solveRowsInPlace } from '../../src/linalg/cholesky.js';
import { pickSubmatrix, transposeMatrix } from '../../src/linalg/matrix-block.js';
import { multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';

const ROW_COUNT = 7;

/** A Hessian with strongly coupled channels, and a weight on them. */
function makeCase(size: number) {
  const random = createRandom(3);
  const draw = (length: number) => Float64Array.from({ length }, () => drawNormal(random));
  const samples = draw(size * (size + 20));
  const hessian = multiplyTransposed(samples, samples, { rows: size, columns: size, inner: size + 20 });
  return { size, hessian, weight: draw(ROW_COUNT * size) };
}

async function invert(matrix: Float64Array, size: number): Promise<Float64Array> {
  const lower = matrix.slice();
  await choleskyInPlace(lower, size);
  await invertFactorInPlace(lower, size);
  return multiplyTransposed(lower, lower, { rows: size, columns: size, inner: size });
}

/** Squared errors of removing single channels after `removed` ones, from the Hessian of the remaining ones. */
async function errorsWithout({ size, hessian, weight }: ReturnType<typeof makeCase>, removed: readonly number[]) {
  const remaining = Array.from({ length: size }, (_, channel) => channel).filter(
    (channel) => !removed.includes(channel),
  );
  const rest = pickSubmatrix(hessian, size, { rows: remaining, columns: remaining });
  const rows = Array.from({ length: ROW_COUNT }, (_, row) => row);
  const lower = rest.slice();
  await choleskyInPlace(lower, remaining.length);
  const coupling = pickSubmatrix(hessian, size, { rows: remaining, columns: removed });
  const repair = multiplyTransposed(pickSubmatrix(weight, size, { rows, columns: removed }), coupling, {
    rows: ROW_COUNT,
    columns: remaining.length,
    inner: removed.length,
  });
  await solveRowsInPlace(lower, repair, { size: remaining.length });
  const kept = pickSubmatrix(weight, size, { rows, columns: remaining });
  const inverse = await invert(rest, remaining.length);
  return new Map(
    remaining.map((channel, at) => {
      const squares = rows.map(
        (row) => (kept[row * remaining.length + at]! + repair[row * remaining.length + at]!) ** 2,
      );
      return [
        channel,
        squares.reduce((sum, square) => sum + square, 0) / inverse[at * remaining.length + at]!,
      ] as const;
    }),
  );
}

describe('a shrinking inverse', () => {
  test.each([
    { size: 40, step: 1, removed: 25 },
    { size: 300, step: 32, removed: 288 },
    { size: 300, step: 270, removed: 270 },
  ])('gives errors of removals after $removed of $size channels in steps of $step', async ({ size, step, removed }) => {
    const given = makeCase(size);
    const shrinking = createShrinkingInverse({
      inverse: await invert(given.hessian, size),
      columns: new Float32Array(transposeMatrix(given.weight, ROW_COUNT, size)),
      size,
      rowCount: ROW_COUNT,
      multiply: multiplyTransposed,
    });
    // Every third channel first, so that the remaining ones are not contiguous.
    const order = [0, 1, 2].flatMap((start) =>
      Array.from({ length: Math.ceil((size - start) / 3) }, (_, at) => start + 3 * at),
    );
    for (let at = 0; at < removed; at += step) await shrinking.remove(Int32Array.from(order.slice(at, at + step)));
    const expected = await errorsWithout(given, order.slice(0, removed));
    expect(expected.size).toBe(size - removed);
    // The weight is in single precision.
    for (const [channel, error] of expected)
      expect((await shrinking.errorOf(Int32Array.of(channel))) / error).toBeCloseTo(1, 6);
  });

  test('returns errors of steps that sum to the error of removing all channels', async () => {
    const given = makeCase(40);
    const shrinking = createShrinkingInverse({
      inverse: await invert(given.hessian, 40),
      columns: new Float32Array(transposeMatrix(given.weight, ROW_COUNT, 40)),
      size: 40,
      rowCount: ROW_COUNT,
      multiply: multiplyTransposed,
    });
    let sum = 0;
    for (let channel = 0; channel < 40; channel += 8)
      sum += await shrinking.remove(Int32Array.from({ length: 8 }, (_, at) => channel + at));
    const products = multiplyTransposed(given.weight, given.hessian, { rows: ROW_COUNT, columns: 40, inner: 40 });
    const whole = given.weight.reduce((total, value, at) => total + value * products[at]!, 0);
    expect(sum / whole).toBeCloseTo(1, 6);
  });
});
