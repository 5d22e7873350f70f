import ndarray from 'ndarray';
import { REPAIRS, type Repair, type RepairName } from '../../src/compensation/repairs.js';
import { NumericalError } from '../../src/errors.js';
import { randomProblem, statisticsOf } from './random-problem.js';
import { reconstructionError } from './reconstruction-error.js';

const names = Object.keys(REPAIRS) as RepairName[];
const KEEP = Int32Array.of(0, 2, 3, 5, 8, 9, 11);
const ALL = Int32Array.from({ length: 12 }, (_, j) => j);

const errorOf = async (name: RepairName, seed: number, keep = KEEP) => {
  const problem = randomProblem({ seed });
  return reconstructionError(problem, keep, await REPAIRS[name].compensate(problem, keep, { dampening: 0 }));
};

describe.each(names)('repair %s', (name) => {
  const repair: Repair = REPAIRS[name];

  it('changes nothing when nothing is removed', async () => {
    const problem = randomProblem();
    const { weight, bias } = await repair.compensate(problem, ALL, { dampening: 0.01 });
    if (weight) expect(weight).toEqual(problem.weight.data);
    for (const value of bias ?? []) expect(value).toBeCloseTo(0, 12);
  });

  it('gives weights and biases of the expected lengths, also if all channels are removed', async () => {
    for (const keep of [KEEP, new Int32Array(0)]) {
      const { weight, bias } = await repair.compensate(randomProblem(), keep, { dampening: 0.01 });
      if (weight) expect(weight).toHaveLength(5 * keep.length);
      if (bias) expect(bias).toHaveLength(5);
      for (const value of [...(weight ?? []), ...(bias ?? [])]) expect(value).not.toBeNaN();
    }
  });

  it('is never worse on the calibration tokens than no repair', async () => {
    for (let seed = 1; seed <= 5; seed++) {
      expect(await errorOf(name, seed)).toBeLessThanOrEqual((await errorOf('none', seed)) * (1 + 1e-9));
    }
  });

  it('gives the same result for a transposed weight', async () => {
    const problem = randomProblem();
    const transposed = Float32Array.from({ length: 60 }, (_, at) => problem.weight.get(at % 5, Math.floor(at / 5)));
    const other = { ...problem, weight: ndarray(transposed, [5, 12], [1, 5]) };
    const options = { dampening: 0.01 };
    expect(await repair.compensate(other, KEEP, options)).toEqual(await repair.compensate(problem, KEEP, options));
  });
});

describe('least squares', () => {
  it('cannot be improved by changing a weight', async () => {
    const problem = randomProblem();
    const { weight } = await REPAIRS['least-squares'].compensate(problem, KEEP, { dampening: 0 });
    const best = reconstructionError(problem, KEEP, { weight });
    for (let at = 0; at < weight.length; at += 3) {
      for (const step of [-0.01, 0.01]) {
        const moved = weight.slice();
        moved[at]! += step;
        expect(reconstructionError(problem, KEEP, { weight: moved })).toBeGreaterThan(best);
      }
    }
  });

  it('with a bias is at least as good as either alone', async () => {
    for (let seed = 1; seed <= 5; seed++) {
      const both = await errorOf('least-squares-and-bias', seed);
      expect(both).toBeLessThanOrEqual((await errorOf('least-squares', seed)) * (1 + 1e-6));
      expect(both).toBeLessThanOrEqual((await errorOf('bias', seed)) * (1 + 1e-6));
    }
  });

  it('leaves almost no error if a removed channel is a multiple of a remaining one', async () => {
    const problem = randomProblem();
    const tokens = problem.tokens.slice();
    for (let token = 0; token < 60; token++) tokens[token * 12 + 1] = 2 * tokens[token * 12]!;
    const doubled = { ...problem, tokens, statistics: statisticsOf(tokens, 60) };
    const keep = ALL.filter((j) => j !== 1);
    const repaired = await REPAIRS['least-squares'].compensate(doubled, keep, { dampening: 1e-9 });
    expect(reconstructionError(doubled, keep, repaired)).toBeLessThan(1e-9);
  });

  it.each(['dead channels', 'rank one', 'all dead'])('is finite, and no worse than no repair, for %s', async (kind) => {
    const problem = randomProblem();
    const tokens = problem.tokens.slice();
    for (let token = 0; token < 60; token++) {
      for (let j = 0; j < 12; j++) {
        if (kind === 'all dead' || (kind === 'dead channels' && j % 4 === 0)) tokens[token * 12 + j] = 0;
        if (kind === 'rank one') tokens[token * 12 + j] = (j + 1) * tokens[token * 12]!;
      }
    }
    const degenerate = { ...problem, tokens, statistics: statisticsOf(tokens, 60) };
    for (const dampening of [0, 0.01]) {
      const repaired = await REPAIRS['least-squares'].compensate(degenerate, KEEP, { dampening });
      expect(repaired.weight.every(Number.isFinite)).toBe(true);
      expect(reconstructionError(degenerate, KEEP, repaired)).toBeLessThanOrEqual(
        reconstructionError(degenerate, KEEP, {}) + 1e-9,
      );
    }
  });

  it('throws if no dampening helps', async () => {
    const problem = randomProblem();
    const gram = problem.statistics.gram!.map((value, at) => (at === 2 || at === 24 ? 1e6 : value));
    const broken = { ...problem, statistics: { ...problem.statistics, gram } };
    await expect(REPAIRS['least-squares'].compensate(broken, KEEP, { dampening: 0.01 })).rejects.toThrow(
      NumericalError,
    );
  });
});
