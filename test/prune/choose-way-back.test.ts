import type { PrunableModule } from '../../src/architecture/layout.js';
import { chooseWayBack } from '../../src/prune/choose-way-back.js';
import type { DenseNeeds } from '../../src/prune/dense-observation.js';
import { makeBatches } from '../../src/runtime/block-runner.js';

const batchesOf = (windowCount: number) =>
  makeBatches(
    Array.from({ length: windowCount }, () => new Int32Array(512)),
    2,
  );
const needsOf = (outputCount: number, more: Partial<DenseNeeds> = {}) =>
  ({ modules: [{ output: { outputCount } } as PrunableModule], sensitivity: false, ...more }) as DenseNeeds;
const chosen = (windowCount: number, needs: DenseNeeds) =>
  chooseWayBack(batchesOf(windowCount), needs).map(({ index }) => index);

it('takes every n-th batch where a quarter of them has tokens enough', () => {
  expect(chosen(64, needsOf(576))).toEqual([0, 4, 8, 12, 16, 20, 24, 28]);
});

it('takes more for wider outputs, and all of a few', () => {
  expect(chosen(64, needsOf(2048))).toHaveLength(16);
  expect(chosen(64, needsOf(4096))).toHaveLength(32);
  expect(chosen(16, needsOf(64))).toHaveLength(8);
  expect(chosen(0, needsOf(64))).toEqual([]);
});

it('takes all for what is a mean over single contexts, or a sensitivity', () => {
  expect(chosen(64, needsOf(576, { sensitivity: true }))).toHaveLength(32);
  expect(chosen(64, needsOf(576, { grouping: {} as DenseNeeds['grouping'] }))).toHaveLength(32);
});
