import { findFault } from '../../src/options/kinds.js';
import { positions } from '../../src/report/check-report.js';

it.each([
  ['none', []],
  ['some', [0, 3, 7]],
])('takes %s for positions', (_, value) => {
  expect(findFault(value, positions, 'keep')).toBeUndefined();
});

it.each([
  ['one twice', [1, 1]],
  ['a descending list', [2, 0]],
  ['a negative one', [-1, 0]],
  ['half a one', [0.5]],
  ['one beyond 31 bits', [0, 4294967296]],
  ['a text', [0, '1']],
  ['nothing', [null]],
  ['no list', { length: 0 }],
])('takes %s for none', (_, value) => {
  expect(findFault(value, positions, 'keep')).toEqual({ place: 'keep', value, kind: positions });
});
