import { OptionError } from '../../src/errors.js';
import { createRandom } from '../../src/linalg/random.js';
import { appendDivergence } from '../../src/operators/divergence.js';
import type { Tensor } from '../../src/runtime/engine.js';
import { loadGraph } from '../support/load-graph.js';

const dims = [1, 3, 5];
const random = createRandom(4);
const draw = () => Float64Array.from({ length: 15 }, () => 6 * random() - 3);
const weights = Float32Array.of(0.5, 0, 2);

const softmax = (row: readonly number[]): number[] => {
  const powers = row.map(Math.exp);
  const sum = powers.reduce((total, value) => total + value);
  return powers.map((value) => value / sum);
};

function expectedLoss(target: Float64Array, logits: Float64Array): number {
  return weights.reduce((sum, weight, position) => {
    const row = (values: Float64Array) => softmax([...values.subarray(5 * position, 5 * position + 5)]);
    const [p, q] = [row(target), row(logits)];
    return sum + weight * p.reduce((total, value, at) => total + value * Math.log(value / q[at]!), 0);
  }, 0);
}

it('is the weighted KL of the softmaxes, and its cotangent the derivative by the logits', async () => {
  const [target, logits] = [draw(), draw()];
  const built = appendDivergence({ logits: { value: 'x', fact: { dims, dataType: 11 } }, opset: 18 });
  const float64 = (data: Float64Array): Tensor => ({ type: 'float64', dims, data });
  const feeds = {
    x: float64(logits),
    [built.target]: float64(target),
    [built.weights]: { type: 'float32', dims: [1, 3, 1], data: weights } as Tensor,
  };
  const session = await loadGraph({
    opset: 18,
    nodes: built.nodes,
    initializers: built.initializers,
    inputs: feeds,
    outputs: [built.loss, built.cotangent],
  });
  const results = await session.run(feeds);
  await session.release();
  expect(results[built.loss]!.data[0]).toBeCloseTo(expectedLoss(target, logits), 10);
  const step = 1e-5;
  logits.forEach((value, at) => {
    const slope = [step, -step].map((by) => expectedLoss(target, logits.with(at, value + by)));
    expect(results[built.cotangent]!.data[at]).toBeCloseTo((slope[0]! - slope[1]!) / (2 * step), 8);
  });
});

it('refuses logits of another shape', () => {
  const logits = { value: 'x', fact: { dims: [3, 5], dataType: 1 } };
  expect(() => appendDivergence({ logits, opset: 18 })).toThrow(OptionError);
});
