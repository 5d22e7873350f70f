/** Runs the deciding stages on numbers of one's own, without a model: score, choose, repair one linear layer. */
import { createAdapter, ndarray } from 'fang-prune/core';

// y = W h with two outputs and four neurons; neuron 3 is nearly constant.
const weight = ndarray(Float32Array.of(1, 0.1, -1, 2, 0, 0.2, 1, -1), [2, 4]);
const statistics = {
  tokenCount: 1000,
  mean: Float64Array.of(0, 0.5, 0, 3),
  variance: Float64Array.of(1, 0.8, 2, 0.001),
};

const { scores, compensate } = await createAdapter('flap').prepare({
  weight,
  statistics,
  unitOfChannel: Int32Array.of(0, 1, 2, 3),
  unitCount: 4,
  random: () => 0.5,
});

const lowest = scores.indexOf(Math.min(...scores));
const keep = Int32Array.from([0, 1, 2, 3].filter((neuron) => neuron !== lowest));
const { bias = [] } = await compensate(keep);

console.log(`scores ${[...scores].join(' ')}`);
console.log(`neuron ${lowest} goes; the output gets the bias ${[...bias].join(' ')} in its place`);
