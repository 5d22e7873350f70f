import { groupBlocks } from '../../src/cli/group-blocks.js';

it('joins neighbours that look alike, and only those', () => {
  expect(groupBlocks([0, 1, 2, 3, 5], [['a'], ['a'], ['b'], ['a'], ['a']])).toEqual([
    { name: '0-1', look: ['a'] },
    { name: '2', look: ['b'] },
    { name: '3', look: ['a'] },
    { name: '5', look: ['a'] },
  ]);
});
