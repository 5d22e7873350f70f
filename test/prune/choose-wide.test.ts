import { chooseWide, type RoundedMap } from '../../src/prune/quantise/choose-wide.js';
import type { BlockGrid } from '../../src/quantisation/block-codes.js';

const grid: BlockGrid = { bits: 4, blockSize: 32, hasZeroPoints: true, scaleType: 'float32' };
const mapOf = (name: string, outCount: number, cost: number): RoundedMap => ({
  weight: { name, grid, outCount, inCount: 32 },
  cost,
});
/** Bytes of a row: 16 of codes, 4 of scale, 1 of zero point; with eight bits 32 and 4. */
const MAPS = [mapOf('large', 100, 20), mapOf('small', 10, 4), mapOf('cheap', 10, 1)];
const chosen = (share: number) => [...chooseWide(MAPS, share)];

it('takes what costs most for its bytes, as far as there is room', () => {
  // 120 rows of 21 bytes are 2520; the small map takes 150 bytes more, the large one 1500.
  expect(chosen(0)).toEqual([]);
  expect(chosen(150 / 2520)).toEqual(['small']);
  expect(chosen(300 / 2520)).toEqual(['small', 'cheap']);
  expect(chosen(1650 / 2520)).toEqual(['small', 'large']);
  expect(chosen(1)).toEqual(['small', 'large', 'cheap']);
});
