import { openLogits } from '../../src/evaluation/compare-logits.js';
import { testEngine } from '../support/engine.js';
import { loadShortLlama } from '../support/short-llama.js';
import { someWindows } from '../support/tiny-llama.js';

/** Logits of every position of every window, and the positions that were returned together. */
async function logitsOf(positionsAtOnce?: number) {
  const windows = someWindows(3, 11);
  const source = await openLogits(
    { ...(await loadShortLlama()), engine: testEngine, windows },
    { windowsAtOnce: 2, ...(positionsAtOnce && { positionsAtOnce }) },
  );
  const rows = new Map<string, number[]>();
  const shapes: number[][] = [];
  let [first, start] = [0, 0];
  for await (const { data, dims } of source.logits()) {
    const [batchSize = 0, length = 0, width = 0] = dims;
    shapes.push([batchSize, length]);
    for (let row = 0; row < batchSize * length; row += 1) {
      const key = `${first + Math.floor(row / length)}:${start + (row % length)}`;
      rows.set(key, Array.from((data as Float32Array).subarray(row * width, (row + 1) * width)));
    }
    start += length;
    if (start === 11) [first, start] = [first + batchSize, 0];
  }
  await source.dispose();
  return { rows, shapes };
}

it('returns the same logits a few positions at a time', async () => {
  const whole = await logitsOf();
  const divided = await logitsOf(8);
  expect(whole.shapes).toEqual([
    [2, 11],
    [1, 11],
  ]);
  expect(divided.shapes).toEqual([
    [2, 4],
    [2, 4],
    [2, 3],
    [1, 8],
    [1, 3],
  ]);
  expect(divided.rows.size).toBe(33);
  for (const [key, row] of whole.rows) {
    const other = divided.rows.get(key)!;
    expect(Math.max(...row.map((value, at) => Math.abs(other[at]! - value)))).toBeLessThan(5e-5);
  }
});
