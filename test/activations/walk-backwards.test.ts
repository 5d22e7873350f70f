import type { Engine } from '../../src/runtime/engine.js';
import { testEngine } from '../support/engine.js';
import { measureCurvatures } from '../support/measure-curvatures.js';
import { loadShortLlama } from '../support/short-llama.js';
import { relativeGap, someWindows } from '../support/tiny-llama.js';

/** An engine that records the number of loss tokens of each run. */
function recording(lengths: number[]): Engine {
  return {
    ...testEngine,
    async load(model, options) {
      const session = await testEngine.load(model, options);
      const run: typeof session.run = (feeds, fetches) => {
        if (feeds.loss_tokens) lengths.push(feeds.loss_tokens.data.length);
        return session.run(feeds, fetches);
      };
      return { ...session, run };
    },
  };
}

it('splits the loss of windows with too many logits, with the same gradients', async () => {
  const loaded = await loadShortLlama();
  const windows = someWindows(2, 49);
  const [whole, divided]: number[][] = [[], []];
  const expected = await measureCurvatures(loaded, windows, undefined, { engine: recording(whole!) });
  const found = await measureCurvatures(loaded, windows, undefined, {
    engine: recording(divided!),
    mostLogits: 2048 * 30,
  });
  expect(whole).toEqual([49, 49]);
  expect(divided).toEqual([25, 25, 25, 25]);
  for (const [at, curvature] of found.entries()) expect(relativeGap(curvature, expected[at]!)).toBeLessThan(1e-5);
});
