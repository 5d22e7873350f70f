import { OPERATORS } from '../../src/operators/table.js';
import { runGradientCheck } from '../support/gradient-check.js';
import { CASES } from './cases.js';

const differentiable = Object.entries(OPERATORS)
  .filter(([, { gradient }]) => gradient !== 'zero' && !('missing' in gradient))
  .map(([name]) => name);

describe.each(differentiable)('the gradient of %s', (operator) => {
  it('has a check', () => {
    expect(CASES[operator]?.length ?? 0).toBeGreaterThan(0);
  });

  it.each((CASES[operator] ?? []).map((given, at) => [at, given] as const))(
    'agrees with central differences in form %i',
    async (_, given) => {
      const { errors, tolerance } = await runGradientCheck(given);
      for (const [input, error] of Object.entries(errors)) {
        expect({ input, error: error < tolerance ? 'small' : error }).toEqual({ input, error: 'small' });
      }
    },
  );
});

it('no check is left without its rule', () => {
  expect(Object.keys(CASES).filter((operator) => !differentiable.includes(operator))).toEqual([]);
});
