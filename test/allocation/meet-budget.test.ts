import { meetBudget } from '../../src/allocation/meet-budget.js';
import { OptionError } from '../../src/errors.js';

const slot = (weight: number, lowest: number, highest: number) => ({ weight, preferred: lowest, lowest, highest });

it.each([
  ['at most 66.66 % can be removed, 1 parameters too few; lower the sparsity$', 0.9, [slot(3, 0, 2 / 3)]],
  ['at least 33.34 % are removed, 1 parameters too many; raise the sparsity', 0.1, [slot(3, 1 / 3, 1)]],
  ['too few; lower the sparsity or fix fewer blocks$', 0.9, [slot(3, 0, 1), slot(3, 0.5, 0.5)]],
  ['too few; lower the sparsity$', 0.9, [slot(3, 0, 0.5), slot(0, 0.5, 0.5)]],
])('names the limit, rounded so that it can be met: %s', (message, sparsity, slots) => {
  expect(() => meetBudget({ sparsity, slots })).toThrow(OptionError);
  expect(() => meetBudget({ sparsity, slots })).toThrow(new RegExp(message));
});

it('gives what the bounded slots leave to the others', () => {
  const slots = [slot(1, 0, 0.25), slot(3, 0.25, 1), slot(4, 0.5, 0.5)];
  expect([...meetBudget({ sparsity: 0.6, slots })]).toEqual([
    expect.closeTo(0.25, 12),
    expect.closeTo((0.6 * 8 - 0.25 - 2) / 3, 12),
    0.5,
  ]);
});
