import { createQuadraticForm } from '../../src/activations/quadratic-form.js';
import { multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { createRandom } from '../../src/linalg/random.js';
import { chooseCodes, DAMPENINGS } from '../../src/prune/choose-codes.js';
import type { BlockGrid } from '../../src/quantisation/block-codes.js';
import { testEngine } from '../support/engine.js';
import { heldBytes } from '../support/held-bytes.js';

const [OUT, IN] = [4, 512];
const GRID: BlockGrid = { bits: 4, blockSize: 32, hasZeroPoints: true, scaleType: 'float32' };

/** Correlated inputs. */
function someGram(): Float64Array {
  const random = createRandom(5);
  const causes = Float64Array.from({ length: IN * 24 }, () => random() - 0.5);
  const gram = multiplyTransposed(causes, causes, { rows: IN, columns: IN, inner: 24 });
  for (let at = 0; at < IN; at += 1) gram[at * (IN + 1)]! += 0.5;
  return gram;
}

it('keeps at most four matrices of the inputs in memory while it tries dampenings', async () => {
  const random = createRandom(6);
  const form = await createQuadraticForm(testEngine);
  const before = heldBytes();
  const learned = someGram();
  const heldOut = new Float32Array(learned);
  const weight = Float32Array.from({ length: OUT * IN }, () => random() - 0.5);
  let [most, calls] = [0, 0];
  const multiply: typeof multiplyTransposed = (left, right, shape) => {
    if (calls++ % 4 === 0) most = Math.max(most, heldBytes() - before);
    return multiplyTransposed(left, right, shape);
  };
  const problem = { weight, outCount: OUT, inCount: IN, grid: GRID, learned, heldOut };
  await chooseCodes(problem, { form, multiply });
  await form.release();
  expect(DAMPENINGS.length).toBeGreaterThan(1);
  const matrix = learned.byteLength;
  // The Gram matrix, the best factor so far, the next one, and the held-out matrix in single precision.
  expect(most).toBeGreaterThan(3 * matrix);
  expect(most).toBeLessThan(4 * matrix);
});
