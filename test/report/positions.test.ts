import { findFault } from '../../src/options/kinds.js';
import { positions } from '../../src/report/check-report.js';

it.each([
  ['an empty list', []],
  ['an ascending list', [0, 3, 7]],
])('accepts %s', (_, value) => {
  expect(findFault(value, positions, 'keep')).toBeUndefined();
});

it.each([
  ['a repeated position', [1, 1]],
  ['a descending list', [2, 0]],
  ['a negative position', [-1, 0]],
  ['a fraction', [0.5]],
  ['a position beyond 31 bits', [0, 4294967296]],
  ['a string', [0, '1']],
  ['null', [null]],
  ['an object that is no list', { length: 0 }],
])('refuses %s', (_, value) => {
  expect(findFault(value, positions, 'keep')).toEqual({ place: 'keep', value, kind: positions });
});
