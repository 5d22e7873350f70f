import { counted } from '../src/counted.js';

it('writes a noun in the singular after 1 alone', () => {
  expect([0, 1, 2].map((count) => counted(count, 'window'))).toEqual(['0 windows', '1 window', '2 windows']);
  expect([1, 4].map((count) => counted(count, 'batch', 'batches'))).toEqual(['1 batch', '4 batches']);
});
