import { groupBlocks } from '../../src/cli/group-blocks.js';

it('joins adjacent blocks with equal values, and only those', () => {
  expect(groupBlocks([0, 1, 2, 3, 5], [['a'], ['a'], ['b'], ['a'], ['a']])).toEqual([
    { name: '0-1', value: ['a'] },
    { name: '2', value: ['b'] },
    { name: '3', value: ['a'] },
    { name: '5', value: ['a'] },
  ]);
});
