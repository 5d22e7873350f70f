import { NumericalError } from '../../src/errors.js';
import { measureTokenLosses } from '../../src/evaluation/token-losses.js';
import { createFakeModel } from './fake-model.js';

it('scores every token but the first of each window', async () => {
  const { model } = createFakeModel(4, (seen) => [seen.length, 0, 0, 0]);
  const windows = [Int32Array.of(3, 0, 1), Int32Array.of(1, 1, 0)];
  const loss = (length: number, token: number) => Math.log(Math.exp(length) + 3) - (token === 0 ? length : 0);
  const losses = await measureTokenLosses(model, windows);
  [loss(1, 0), loss(2, 1), loss(1, 1), loss(2, 0)].forEach((expected, at) => {
    expect(losses[at]).toBeCloseTo(expected, 5);
  });
});

it('names the window whose logits are NaN', async () => {
  const { model } = createFakeModel(2, (seen) => [seen[0] === 1 ? Number.NaN : 0, 0]);
  const windows = [Int32Array.of(0, 1), Int32Array.of(1, 0)];
  await expect(measureTokenLosses(model, windows)).rejects.toThrow(NumericalError);
  await expect(measureTokenLosses(model, windows)).rejects.toThrow(/window 1/);
});

it('reports progress, and stops when aborted', async () => {
  const { model } = createFakeModel(2, () => [0, 0]);
  const controller = new AbortController();
  const seen: number[] = [];
  const job = measureTokenLosses(model, Array<Int32Array>(5).fill(Int32Array.of(0, 1)), {
    signal: controller.signal,
    onProgress: ({ done }) => {
      seen.push(done);
      if (done === 2) controller.abort(new Error('enough'));
    },
  });
  await expect(job).rejects.toThrow('enough');
  expect(seen).toEqual([1, 2]);
});
