import type { PrunableModule } from '../../src/architecture/layout.js';
import { chooseBackwardBatches } from '../../src/prune/measure-dense/choose-backward-batches.js';
import type { DenseNeeds } from '../../src/prune/measure-dense/dense-measures.js';
import { makeBatches } from '../../src/runtime/block-runner.js';

const batchesOf = (windowCount: number) =>
  makeBatches(
    Array.from({ length: windowCount }, () => new Int32Array(512)),
    2,
  );
const needsOf = (outputCount: number, more: Partial<DenseNeeds> = {}) =>
  ({ modules: [{ output: { outputCount } } as PrunableModule], sensitivity: false, ...more }) as DenseNeeds;
const chosen = (windowCount: number, needs: DenseNeeds) =>
  chooseBackwardBatches(batchesOf(windowCount), needs).map(({ index }) => index);

it('chooses one of every eight batches if they have enough tokens, at even and odd places', () => {
  const found = chosen(256, needsOf(576));
  expect(found.map((index) => Math.floor(index / 8))).toEqual(Array.from({ length: 16 }, (_, at) => at));
  expect(found.filter((index) => index % 2 === 0)).toHaveLength(8);
});

it('chooses more batches for wider outputs, and all of a few', () => {
  expect(chosen(256, needsOf(8192))).toHaveLength(64);
  expect(chosen(256, needsOf(16384))).toHaveLength(128);
  expect(chosen(64, needsOf(64))).toHaveLength(16);
  expect(chosen(32, needsOf(64))).toHaveLength(16);
  expect(chosen(0, needsOf(64))).toEqual([]);
});

it('chooses all batches for contexts or a sensitivity', () => {
  expect(chosen(256, needsOf(576, { sensitivity: true }))).toHaveLength(128);
  expect(chosen(256, needsOf(576, { grouping: {} as DenseNeeds['grouping'] }))).toHaveLength(128);
});
