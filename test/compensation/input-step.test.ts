import { createInputCurvature, lowestOnParabola, polakRibiere } from '../../src/compensation/input-step.js';
import { createRandom } from '../../src/linalg/random.js';

const random = createRandom(3);
const draw = (count: number) => Float64Array.from({ length: count }, () => random() - 0.5);

/** `X X'` of `size` rows. */
function gramOf(size: number, inner: number): Float64Array {
  const rows = draw(size * inner);
  const gram = new Float64Array(size * size);
  for (let i = 0; i < size; i += 1)
    for (let j = 0; j < size; j += 1)
      for (let k = 0; k < inner; k += 1) gram[i * size + j]! += rows[i * inner + k]! * rows[j * inner + k]!;
  return gram;
}

function dampened(matrix: Float64Array, size: number, dampening: number): Float64Array {
  let trace = 0;
  for (let i = 0; i < size; i += 1) trace += matrix[i * size + i]!;
  return matrix.map((value, at) => value + (at % (size + 1) === 0 ? (dampening * trace) / size : 0));
}

it('multiplies the gradient by the inverses of both dampened factors', async () => {
  const [inputCount, neuronCount, dampening] = [7, 5, 0.2];
  const inputGram = gramOf(inputCount, 4);
  const outputGram = new Float32Array(gramOf(neuronCount, 6));
  const rates = gramOf(neuronCount, 3);
  const gradient = new Float32Array(draw(inputCount * neuronCount));
  const problem = { inputCount, neuronCount, inputGram, outputGram, rates: [gramOf(neuronCount, 2), rates], dampening };
  const curvature = await createInputCurvature(problem);
  const step = await curvature.precondition(gradient, 1);
  const first = dampened(inputGram, inputCount, dampening);
  const second = dampened(
    rates.map((value, at) => value * outputGram[at]!),
    neuronCount,
    dampening,
  );
  for (let row = 0; row < inputCount; row += 1) {
    for (let column = 0; column < neuronCount; column += 1) {
      let sum = 0;
      for (let i = 0; i < inputCount; i += 1)
        for (let j = 0; j < neuronCount; j += 1)
          sum += first[row * inputCount + i]! * step[i * neuronCount + j]! * second[j * neuronCount + column]!;
      expect(sum).toBeCloseTo(gradient[row * neuronCount + column]!, 6);
    }
  }
});

it('computes the factor of Polak and Ribière, or 0 if it is negative or undefined', () => {
  const one = { gradient: Float32Array.of(1, 2), preconditioned: Float32Array.of(1, 1) };
  const two = { gradient: Float32Array.of(2, 0), preconditioned: Float32Array.of(3, 1) };
  expect(polakRibiere([two], [one])).toBeCloseTo((3 * 1 + 1 * -2) / 3);
  expect(polakRibiere([{ ...two, preconditioned: Float32Array.of(0, 1) }], [one])).toBe(0);
  expect(polakRibiere([two], [{ gradient: new Float32Array(2), preconditioned: new Float32Array(2) }])).toBe(0);
});

it('finds the minimum of a parabola by its slope and two errors, or 0 if one is infinite', () => {
  const error = (t: number) => 3 * (t - 0.7) ** 2 + 2;
  const start = { error: error(0), slope: 4.2 };
  for (const length of [0.1, 1.4, 5])
    expect(lowestOnParabola(start, { error: error(length), length })).toBeCloseTo(0.7);
  expect(lowestOnParabola(start, { error: start.error, length: 8 })).toBe(4);
  expect(lowestOnParabola(start, { error: Number.POSITIVE_INFINITY, length: 8 })).toBe(0);
});
