import { createCalibrationSet } from '../../src/calibration/calibration-set.js';
import { describeGenerated, mixCalibrationSets, splitWindow } from '../../src/calibration/generated-set.js';
import { sha256OfTokens } from '../../src/calibration/sha256.js';

const drawing = { seed: 5, startToken: 0, temperature: 1, documentLength: 128 };
const windowsOf = (...ids: number[]) => ids.map((id) => Int32Array.of(0, id));

const own = (count: number) =>
  createCalibrationSet({ source: { tokens: Array(2 * count).fill(1) }, windowCount: count + 1, windowLength: 2 });

it('records how the windows were generated, and their hash', async () => {
  const { provenance } = await describeGenerated(windowsOf(10, 11), drawing);
  const tokensSha256 = await sha256OfTokens(windowsOf(10, 11));
  expect(provenance).toMatchObject({ kind: 'generated', tokensSha256, windowCount: 2, windowLength: 2, tokenCount: 4 });
  expect(provenance.generated).toEqual({ windowCount: 2, share: 1, ...drawing, tokensSha256 });
});

it.each([
  [512, 128, 4, 128],
  [128, 128, 1, 128],
  [100, 128, 1, 100],
  [129, 128, 2, 65],
  [512, 2048, 1, 512],
  [3, 2, 2, 2],
])('fills a window of %i tokens with documents of at most %i: %i of %i', (window, longest, count, length) => {
  expect(splitWindow(window, longest)).toEqual({ count, length });
});

it('counts documents, not windows', async () => {
  const { provenance } = await describeGenerated([new Int32Array(512)], drawing);
  expect(provenance).toMatchObject({ documentCount: 4, windowCount: 1 });
});

it.each([
  [2, [10, 11], [1, 10, 1, 11]],
  [4, [10, 11], [1, 10, 1, 1, 11, 1]],
  [1, [10, 11, 12], [10, 1, 11, 12]],
])('spreads windows evenly: %i of a text, generated %j', async (count, ids, order) => {
  const { windows } = await mixCalibrationSets(await own(count), await describeGenerated(windowsOf(...ids), drawing));
  expect(windows.map((window) => window[1])).toEqual(order);
});

it('records the source of the text and the share of generated windows', async () => {
  const generated = await describeGenerated(windowsOf(10), drawing);
  const { windows, provenance } = await mixCalibrationSets(await own(3), generated);
  expect(provenance).toMatchObject({
    kind: 'tokens',
    windowCount: 4,
    requestedWindowCount: 5,
    tokensSha256: await sha256OfTokens(windows),
    generated: { ...drawing, windowCount: 1, share: 0.25, tokensSha256: generated.provenance.tokensSha256 },
  });
});
