import { chooseStride } from '../../src/prune/measure-dense/sparse-archive.js';
import { measureCurvatures } from '../support/measure-curvatures.js';
import { loadFusedLlama } from '../support/short-llama.js';
import { relativeGap, someWindows } from '../support/tiny-llama.js';

it('measures the chosen batches as if there were no others', async () => {
  const loaded = await loadFusedLlama();
  const windows = someWindows(8, 24);
  const some = await measureCurvatures(loaded, windows, ({ index }) => index % 2 === 1);
  const alone = await measureCurvatures(loaded, [...windows.slice(2, 4), ...windows.slice(6, 8)]);
  expect(some).toEqual(alone);
});

it('recomputes inputs of blocks that were not archived', async () => {
  const loaded = await loadFusedLlama();
  const windows = someWindows(8, 24);
  const choose = ({ index }: { readonly index: number }) => index % 2 === 1;
  const all = await measureCurvatures(loaded, windows, choose);
  for (const stride of [2, 4]) {
    const some = await measureCurvatures(loaded, windows, choose, { stride });
    for (const [at, matrix] of some.entries()) expect(relativeGap(matrix, all[at]!)).toBeLessThan(1e-4);
  }
});

it('archives inputs of all blocks if they fit, else of every n-th block', () => {
  const GB = 2 ** 30;
  expect(chooseStride(30, 0.075 * GB, 0.3 * GB)).toBe(1);
  // Llama-2-7B on 64 windows of 512: 17.7 GB in all, where half the model is 6.75.
  expect(chooseStride(32, 0.54 * GB, 13.5 * GB)).toBe(4);
  expect(chooseStride(32, 4.3 * GB, 13.5 * GB)).toBe(4);
  expect(chooseStride(1, 100 * GB, GB)).toBe(1);
});
