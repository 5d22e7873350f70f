import ndarray from 'ndarray';
import type { ImportanceProblem } from '../../src/compensation/adapter.js';
import { columnSums, pickColumns } from '../../src/importance/column-sums.js';
import { EXPERT_SCORES, type ExpertScoreName } from '../../src/importance/expert-scores.js';
import { FLUCTUATION_METRICS, scoreByFluctuation } from '../../src/importance/fluctuation.js';
import { scoreByMagnitude } from '../../src/importance/magnitude.js';
import { scoreAtRandom } from '../../src/importance/random.js';
import { channelsOfUnits } from '../../src/importance/units.js';
import { scoreByWeightTimesInput } from '../../src/importance/wanda.js';
import { createRandom } from '../../src/linalg/random.js';

// Two outputs, four channels, two units; worked out by hand.
const problem: ImportanceProblem = {
  weight: ndarray(Float32Array.of(1, -2, 0, 4, 2, 1, -3, 0), [2, 4]),
  statistics: {
    tokenCount: 4,
    mean: Float64Array.of(1, 0, 2, -1),
    variance: Float64Array.of(3, 1, 0, 8),
  },
  unitOfChannel: Int32Array.of(0, 0, 1, 1),
  unitCount: 2,
  random: createRandom(0),
};

describe('columnSums and pickColumns', () => {
  it('read views with an offset, padded rows or transposed strides', () => {
    const { weight } = problem;
    expect([...columnSums(weight, 'squares')]).toEqual([5, 5, 9, 16]);
    expect([...columnSums(weight, 'absolutes')]).toEqual([3, 3, 3, 4]);
    const transposed = ndarray(Float32Array.of(1, 2, -2, 1, 0, -3, 4, 0), [2, 4], [1, 2]);
    expect([...columnSums(transposed, 'squares')]).toEqual([5, 5, 9, 16]);
    const padded = ndarray(Float32Array.of(9, 9, 1, -2, 9, 2, 1), [2, 2], [3, 1], 2);
    expect([...columnSums(padded, 'absolutes')]).toEqual([3, 3]);
    expect([...pickColumns(transposed, [3, 0])]).toEqual([4, 1, 0, 2]);
    expect([...pickColumns(padded, [1])]).toEqual([-2, 1]);
  });
});

describe('fluctuation', () => {
  it('is v_j, v_j ||W_:j||^2, or mean_c |W_cj| sqrt(sum w h^2) per channel', () => {
    expect([...FLUCTUATION_METRICS.IFV(problem)]).toEqual([3, 1, 0, 8]);
    expect([...FLUCTUATION_METRICS.WIFV(problem)]).toEqual([15, 5, 0, 128]);
    // Norms of the inputs: sqrt(4 (v + mu^2)) = 4, 2, 4, 6.
    expect([...FLUCTUATION_METRICS.WIFN(problem)]).toEqual([6, 3, 6, 12]);
  });

  it('sums channels, or their squares, to units', () => {
    expect([...scoreByFluctuation(problem, 'IFV', 'sum')]).toEqual([4, 8]);
    expect([...scoreByFluctuation(problem, 'IFV', 'sum-of-squares')]).toEqual([10, 64]);
  });
});

describe('weighted norms', () => {
  it('sum |W_cj| ||x_j|| over outputs and channels (Wanda)', () => {
    expect([...scoreByWeightTimesInput(problem)]).toEqual([3 * 4 + 3 * 2, 3 * 4 + 4 * 6]);
  });

  it("take the Frobenius norm of a unit's columns (magnitude)", () => {
    expect([...scoreByMagnitude(problem)]).toEqual([Math.sqrt(10), 5]);
  });
});

describe('scoreAtRandom', () => {
  it('draws from the generator of the problem', () => {
    expect([...scoreAtRandom({ ...problem, random: createRandom(5) })]).toEqual([
      ...scoreAtRandom({ ...problem, random: createRandom(5) }),
    ]);
    expect([...scoreAtRandom({ ...problem, random: createRandom(5) })]).not.toEqual([...scoreAtRandom(problem)]);
  });
});

describe('channelsOfUnits', () => {
  it('lists channels by unit, also where they interleave', () => {
    const lists = channelsOfUnits({ unitOfChannel: Int32Array.of(0, 1, 0, 1, 2), unitCount: 3 });
    expect(lists.map((list) => [...list])).toEqual([[0, 2], [1, 3], [4]]);
  });
});

it('scores of experts are means over the tokens that are routed to them', () => {
  const statistics = {
    tokens: Float64Array.of(2, 0, 4),
    gatedNorms: Float64Array.of(1, 0, 8),
    norms: Float64Array.of(4, 0, 2),
    squares: Float64Array.of(6, 0, 20),
    costs: new Float64Array(3),
  };
  const scoresBy = (name: ExpertScoreName) => [...EXPERT_SCORES[name].score(statistics)];
  expect(scoresBy('reap')).toEqual([0.5, 0, 2]);
  expect(scoresBy('man')).toEqual([2, 0, 0.5]);
  expect(scoresBy('msan')).toEqual([3, 0, 5]);
  expect(scoresBy('frequency')).toEqual([2, 0, 4]);
});
