import { createChangeMeter } from '../../src/activations/measure-change.js';
import type { Tensor } from '../../src/runtime/engine.js';
import { testEngine } from '../support/engine.js';

const tensor = (dims: number[], data: number[]): Tensor => ({ type: 'float32', dims, data: Float32Array.from(data) });

it('sums over tokens, however the residual stream lays them out', async () => {
  const meter = await createChangeMeter(testEngine, 'float32');
  try {
    const before = tensor([2, 2, 2], [1, 0, 0, 2, 3, 0, 1, 1]);
    const values = [1, 0, 4, 0, -1, 0, 1, 0];
    const expected = 0 + 1 + 2 + (1 - Math.SQRT1_2);
    expect(await meter.measure(before, tensor([2, 2, 2], values))).toBeCloseTo(expected, 6);
    expect(await meter.measure(before, tensor([4, 2], values))).toBeCloseTo(expected, 6);
  } finally {
    await meter.release();
  }
});
