import { measureCurvatures, wholeCurvatures } from '../support/measure-curvatures.js';
import { buildDecoder, postNorm, VOCABULARY } from '../support/small-decoder.js';
import { loadTinyLlama, relativeGap } from '../support/tiny-llama.js';

it('matches curvatures of the whole model if a norm follows the linear layer', async () => {
  const loaded = await loadTinyLlama(buildDecoder({ compose: postNorm }));
  const windows = Array.from({ length: 3 }, (_, window) =>
    Int32Array.from({ length: 12 }, (__, at) => (window * 17 + at * at * 7 + at * 3) % VOCABULARY),
  );
  const found = await measureCurvatures(loaded, windows);
  const expected = await wholeCurvatures(loaded, windows);
  for (const [at, matrix] of found.entries()) expect(relativeGap(matrix, expected[at]!)).toBeLessThan(1e-4);
});
