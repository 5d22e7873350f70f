import {
  createErrorMeter,
  type ErrorMeter,
  type RepairedChannels,
} from '../../src/activations/measure-output-error.js';
import { createQuadraticForm } from '../../src/activations/quadratic-form.js';
import { EMPTY_STATISTICS, type ImportanceProblem } from '../../src/compensation/adapter.js';
import { REPAIRS, type RepairName } from '../../src/compensation/repairs.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';
import { randomProblem, statisticsOf } from '../compensation/random-problem.js';
import { reconstructionError } from '../compensation/reconstruction-error.js';
import { testEngine } from '../support/engine.js';

let meter: ErrorMeter;
beforeAll(async () => {
  meter = await createErrorMeter(testEngine);
});
afterAll(() => meter.release());

const keep = Int32Array.of(0, 1, 4, 5, 7, 9, 11);

async function repairBy(name: RepairName, problem: ImportanceProblem): Promise<RepairedChannels> {
  const repaired = await REPAIRS[name].compensate(problem, keep, { dampening: 0.01 });
  return { statistics: problem.statistics, weight: problem.weight, remaining: keep, repaired };
}

describe('the error of an output linear layer on the calibration tokens', () => {
  it.each(Object.keys(REPAIRS) as RepairName[])('equals the error over the tokens, repaired by %s', async (name) => {
    const problem = randomProblem();
    const repaired = await repairBy(name, problem);
    const whole = reconstructionError({ ...problem }, new Int32Array(0), {});
    const found = (await meter.measure([repaired]))!;
    expect(found.basis).toBe('gram');
    expect(found.before / (reconstructionError(problem, keep, {}) / whole)).toBeCloseTo(1, 5);
    expect(found.after / (reconstructionError(problem, keep, repaired.repaired) / whole)).toBeCloseTo(1, 4);
    if (name === 'none') expect(found.after).toBe(found.before);
    else expect(found.after).toBeLessThan(found.before);
  });

  it('is estimated from moments if channels are independent', async () => {
    const random = createRandom(3);
    const tokens = Float64Array.from({ length: 20_000 * 12 }, (_, at) => ((at % 12) - 4) / 5 + drawNormal(random));
    const { gram, ...moments } = statisticsOf(tokens, 20_000);
    const problem = { ...randomProblem(), statistics: { ...moments, gram: gram! } };
    const repaired = await repairBy('bias', problem);
    const exact = (await meter.measure([repaired]))!;
    const estimated = (await meter.measure([{ ...repaired, statistics: moments }]))!;
    expect(estimated.basis).toBe('moments');
    expect(estimated.before / exact.before).toBeCloseTo(1, 1);
    expect(estimated.after / exact.after).toBeCloseTo(1, 1);
    expect(exact.after).toBeLessThan(exact.before);
  });

  it('is summed over groups', async () => {
    const [one, other] = [randomProblem({ seed: 1 }), randomProblem({ seed: 2 })];
    const nothing = new Int32Array(0);
    const whole = [one, other].reduce((sum, problem) => sum + reconstructionError(problem, nothing, {}), 0);
    const before = [one, other].reduce((sum, problem) => sum + reconstructionError(problem, keep, {}), 0);
    const found = (await meter.measure([await repairBy('none', one), await repairBy('none', other)]))!;
    expect(found.before).toBeCloseTo(before / whole, 5);
  });

  it('is undefined without statistics', async () => {
    const { weight } = randomProblem();
    expect(
      await meter.measure([{ statistics: EMPTY_STATISTICS, weight, remaining: keep, repaired: {} }]),
    ).toBeUndefined();
  });
});

it('sums a quadratic form over more rows than one strip has', async () => {
  const form = await createQuadraticForm(testEngine);
  const columns = 2050;
  const matrix = { rows: 1, columns, values: new Float32Array(columns).fill(1) };
  // C = 1 + diagonal 1..columns
  const rowsOf = (start: number, end: number) => {
    const width = columns - start;
    const rows = new Float32Array((end - start) * width).fill(1);
    for (let row = start; row < end; row++) rows[(row - start) * width + row - start]! += row + 1;
    return rows;
  };
  expect(await form.trace(matrix, rowsOf)).toBeCloseTo((columns * (columns + 1)) / 2 + columns ** 2, 0);
  await form.release();
});
