import ndarray from 'ndarray';
import { EMPTY_STATISTICS } from '../../src/compensation/adapter.js';
import { createImportanceAdapter } from '../../src/compensation/importance-adapter.js';
import { createAdapter, METHODS, type MethodName, resolveMethod } from '../../src/compensation/methods.js';
import { NumericalError, OptionError } from '../../src/errors.js';
import { createRandom, drawPermutation } from '../../src/linalg/random.js';
import { chooseChannels } from '../../src/removal/choose-channels.js';
import { randomProblem, statisticsOf } from './random-problem.js';
import { reconstructionError } from './reconstruction-error.js';

const names = Object.keys(METHODS) as MethodName[];
const whole = (length: number) => Int32Array.from({ length }, (_, index) => index);

describe.each(names)('method %s', (name) => {
  const { needs, defaults } = METHODS[name];

  it('creates an adapter with the needs of its row', () => {
    expect(createAdapter(name).needs).toBe(needs);
    expect(resolveMethod(name).adapter.needs).toBe(needs);
    expect(Object.keys(defaults).length).toBeGreaterThan(0);
  });

  it('gives finite scores of neurons and heads, and repairs of the remaining shape', async () => {
    for (const unitSize of [1, 3]) {
      const problem = randomProblem({ unitSize });
      const prepared = await createAdapter(name).prepare(problem);
      expect(prepared.scores).toHaveLength(12);
      expect(prepared.scores.every((score) => Number.isFinite(score) && score >= 0)).toBe(true);
      const keep = whole(6 * unitSize);
      const { weight, bias } = await prepared.compensate(keep);
      expect(weight?.length ?? 5 * keep.length).toBe(5 * keep.length);
      expect(bias?.length ?? 5).toBe(5);
    }
  });

  it('gives the same scores for a transposed weight', async () => {
    const problem = randomProblem();
    const transposed = Float32Array.from({ length: 60 }, (_, at) => problem.weight.get(at % 5, Math.floor(at / 5)));
    const weight = ndarray(transposed, [5, 12], [1, 5]);
    const newRandom = () => createRandom(4);
    const { scores } = await createAdapter(name).prepare({ ...problem, random: newRandom() });
    expect((await createAdapter(name).prepare({ ...problem, weight, random: newRandom() })).scores).toEqual(scores);
  });

  it('permutes the choice with the neurons', async () => {
    if (name === 'random') return;
    const problem = randomProblem();
    const order = drawPermutation(createRandom(9), 12);
    const { mean, variance, gram, tokenCount } = problem.statistics;
    const permuted = {
      ...problem,
      weight: ndarray(
        Float32Array.from({ length: 60 }, (_, at) => problem.weight.get(Math.floor(at / 12), order[at % 12]!)),
        [5, 12],
      ),
      statistics: {
        tokenCount,
        mean: mean.map((_, j) => mean[order[j]!]!),
        variance: variance.map((_, j) => variance[order[j]!]!),
        gram: gram!.map((_, at) => gram![order[Math.floor(at / 12)]! * 12 + order[at % 12]!]!),
      },
    };
    const removed = async (one: typeof problem | typeof permuted) => {
      const { scores } = await createAdapter(name).prepare(one);
      return chooseChannels({ unitCount: 12, groups: [{ units: whole(12), scores }], removeCount: 5 }).remove;
    };
    const before = Array.from(await removed(problem)).sort((a, b) => a - b);
    expect(Array.from(await removed(permuted), (j) => order[j]!).sort((a, b) => a - b)).toEqual(before);
  });

  it('refuses NaN weights, wrong shapes, and missing or infinite statistics', async () => {
    const problem = randomProblem();
    const weight = ndarray(
      Float32Array.from({ length: 60 }, (_, at) => (at === 17 ? Number.NaN : 1)),
      [5, 12],
    );
    const prepare = async (change: object) => createAdapter(name).prepare({ ...problem, ...change });
    await expect(prepare({ weight })).rejects.toThrow(/NaN at output 1, channel 5/);
    await expect(prepare({ weight })).rejects.toThrow(NumericalError);
    const transposed = ndarray(weight.data, [5, 12], [1, 5]);
    await expect(prepare({ weight: transposed })).rejects.toThrow(/NaN at output 2, channel 3/);
    await expect(prepare({ weight: ndarray(new Float32Array(55), [5, 11]) })).rejects.toThrow(OptionError);
    await expect(prepare({ unitCount: 13 })).rejects.toThrow(OptionError);
    if (needs === 'none') {
      expect((await prepare({ statistics: EMPTY_STATISTICS })).scores).toHaveLength(12);
    } else {
      await expect(prepare({ statistics: EMPTY_STATISTICS })).rejects.toThrow(OptionError);
      const mean = problem.statistics.mean.map((mu, j) => (j === 3 ? Number.POSITIVE_INFINITY : mu));
      await expect(prepare({ statistics: { ...problem.statistics, mean } })).rejects.toThrow(
        /mean .* Infinity at position 3/,
      );
    }
  });
});

describe('obc', () => {
  it('scores a unit by the error that remains after the best repair of the others', async () => {
    for (const unitSize of [1, 3]) {
      const problem = randomProblem({ unitSize, unitCount: 6, tokenCount: 200 });
      const { scores, compensate } = await createAdapter('obc', { dampening: 0 }).prepare(problem);
      for (let unit = 0; unit < 6; unit++) {
        const keep = whole(6 * unitSize).filter((channel) => problem.unitOfChannel[channel] !== unit);
        const error = reconstructionError(problem, keep, await compensate(keep));
        // The score is of H = 2 A, twice the mean squared error.
        expect(scores[unit]! / 2).toBeCloseTo(error, 4);
      }
    }
  });

  it('scores units by the cumulative error in their order with step 1', async () => {
    for (const unitSize of [1, 2]) {
      const problem = randomProblem({ unitSize, unitCount: 8, tokenCount: 200 });
      const { scores, compensate } = await createAdapter('obc', { dampening: 0, step: 1 }).prepare(problem);
      const order = Array.from(scores.keys()).sort((a, b) => scores[a]! - scores[b]!);
      for (const count of [1, 3, 6]) {
        const removedUnits = new Set(order.slice(0, count));
        const keep = whole(8 * unitSize).filter((channel) => !removedUnits.has(problem.unitOfChannel[channel]!));
        const error = reconstructionError(problem, keep, await compensate(keep));
        expect(scores[order[count - 1]!]! / 2).toBeCloseTo(error, 3);
      }
    }
  });

  it('divides the error of all units among them, in steps of any size', async () => {
    const problem = randomProblem({ unitCount: 8, tokenCount: 200 });
    const error = reconstructionError(problem, new Int32Array(0), {});
    for (const step of [1, 3]) {
      const { scores } = await createAdapter('obc', { dampening: 0, step }).prepare(problem);
      expect(Math.max(...scores) / 2 / error).toBeCloseTo(1, 4);
    }
  });

  it('gives a neuron whose output another one cancelled the cost of that one, not less', async () => {
    // Without the first neuron, the second one has nothing left to do.
    const tokens = Float64Array.from({ length: 40 }, (_, at) => Math.sin(at >> 1) + (at % 2) * 0.1 * Math.cos(at));
    const given = { ...randomProblem({ outputCount: 1, unitCount: 2 }), statistics: statisticsOf(tokens, 20) };
    const problem = { ...given, weight: ndarray(Float32Array.of(1, -1), [1, 2]) };
    const { scores, costs } = await createAdapter('obc', { dampening: 0, step: 1 }).prepare(problem);
    expect(Math.max(...scores) - Math.min(...scores)).toBeLessThan(0.1 * Math.min(...scores));
    expect(costs![1]).toBe(costs![0]);
  });

  it('removes the same first unit in one shot and in steps of any size', async () => {
    const problem = randomProblem();
    const oneShot = (await createAdapter('obc').prepare(problem)).scores;
    for (const step of [1, 5, 12, 100]) {
      const { scores } = await createAdapter('obc', { step }).prepare(problem);
      expect(scores.indexOf(Math.min(...scores))).toBe(oneShot.indexOf(Math.min(...oneShot)));
    }
  });

  it('remarks that it raised the dampening', async () => {
    const problem = randomProblem({ tokenCount: 4 });
    const { remarks, scores } = await createAdapter('obc', { dampening: 0 }).prepare(problem);
    expect(remarks?.join()).toMatch(/dampening raised from 0 to /);
    expect(scores.every(Number.isFinite)).toBe(true);
    expect((await createAdapter('obc').prepare(problem)).remarks).toEqual([]);
  });

  it('refuses options out of range', () => {
    expect(() => createAdapter('obc', { dampening: -1 })).toThrow(OptionError);
    expect(() => createAdapter('obc', { step: 0 })).toThrow(OptionError);
    expect(() => createAdapter('obc', { damp: 1 } as object)).toThrow(/"damp".*dampening, step/);
  });
});

describe('flap', () => {
  it('squares the channel scores of heads, and only of heads, before adding them', async () => {
    const heads = randomProblem({ unitSize: 3 });
    const channels = randomProblem({ unitSize: 3 });
    const single = { ...channels, unitOfChannel: whole(36), unitCount: 36 };
    const perChannel = (await createAdapter('flap').prepare(single)).scores;
    const squared = (await createAdapter('flap').prepare(heads)).scores;
    const plain = (await createAdapter('flap', { aggregate: 'sum' }).prepare(heads)).scores;
    const add = (power: number) => [0, 1, 2].reduce((sum, i) => sum + perChannel[i]! ** power, 0);
    expect(squared[0]).toBeCloseTo(add(2), 9);
    expect(plain[0]).toBeCloseTo(add(1), 9);
  });

  it('refuses an unknown fluctuation', () => {
    expect(() => createAdapter('flap', { fluctuation: 'IVF' as 'IFV' })).toThrow(/IVF.*IFV, WIFV, WIFN/);
  });
});

describe('a custom method', () => {
  it('can be a formula, a formula with a repair, or an adapter', async () => {
    const problem = randomProblem();
    const { adapter: formula } = resolveMethod(({ statistics }) => statistics.variance);
    expect((await formula.prepare(problem)).scores).toEqual(problem.statistics.variance);
    expect(createImportanceAdapter(() => [], { repair: 'least-squares', needs: 'none' }).needs).toBe('gram');
    expect(resolveMethod(formula).adapter).toBe(formula);
  });

  it('throws an error that describes the mistake', async () => {
    const prepare = (score: () => never) => resolveMethod(score).adapter.prepare(randomProblem());
    await expect(prepare(() => [1, 2] as never)).rejects.toThrow(/2 scores for 12 units/);
    await expect(prepare(() => undefined as never)).rejects.toThrow(/no scores for 12 units/);
    const { adapter: notFinite } = resolveMethod(() => new Array<number>(12).fill(Number.NaN));
    await expect(notFinite.prepare(randomProblem())).rejects.toThrow(NumericalError);
    expect(() => createImportanceAdapter(() => [], { repair: 'magic' as 'none' })).toThrow(OptionError);
    expect(() => resolveMethod('flapp')).toThrow(`"flapp"; expected one of ${names.join(', ')}`);
  });
});
