import { applyChange } from '../../src/removal/apply-change.js';
import { gapToMasked } from '../support/masked.js';
import { loadFusedLlama } from '../support/short-llama.js';
import { bytesOf, type Loaded, pruneLoaded, someWindows } from '../support/tiny-llama.js';

let loaded: Loaded;
beforeAll(async () => {
  loaded = await loadFusedLlama();
});

const settings = { windowsPerStep: 2, learningRate: 1e-3 };

it('heals a pruned model, with the same weights in the masked original and from a recipe', async () => {
  const healing = { windows: someWindows(4, 24), heldOut: someWindows(4, 24).slice(0, 2) };
  const outcome = await pruneLoaded(loaded, { sparsity: 0.4, method: 'flap', heal: settings }, { healing });
  const { windowCount, heldOutCount, divergence } = outcome.healing!;
  expect({ windowCount, heldOutCount }).toEqual({ windowCount: 4, heldOutCount: 2 });
  expect(divergence.after).toBeLessThan(0.9 * divergence.before);
  expect(outcome.timings.map(({ stage }) => stage)).toContain('heal');
  expect(await gapToMasked(loaded, outcome)).toBeLessThan(1e-5);
  expect(await gapToMasked(loaded, { ...outcome, changed: new Map() })).toBeGreaterThan(1e-3);
  const remade = applyChange(loaded.model, loaded.analysed, outcome);
  expect(Buffer.compare(await bytesOf(remade), await bytesOf(outcome.model))).toBe(0);
});

it('heals after the last shot, on predictions of the model before the first', async () => {
  const healing = { windows: someWindows(4, 24), heldOut: someWindows(4, 24).slice(0, 2) };
  const outcome = await pruneLoaded(loaded, { sparsity: 0.4, method: 'flap', shots: 2, heal: settings }, { healing });
  const { divergence } = outcome.healing!;
  expect(divergence.after).toBeLessThan(divergence.before);
  // The model before the second shot is closer: learning from it would begin at a smaller divergence.
  expect(divergence.before).toBeGreaterThan(0.5);
  expect(await gapToMasked(loaded, outcome)).toBeLessThan(1e-5);
});

it('remarks that nothing was healed if nothing was removed', async () => {
  const healing = { windows: someWindows(4, 24), heldOut: someWindows(4, 24).slice(0, 2) };
  const outcome = await pruneLoaded(loaded, { sparsity: 0, heal: settings }, { healing });
  expect(outcome.healing).toBeUndefined();
  expect(outcome.remarks).toContain('nothing was removed, so the float model was not healed');
});
