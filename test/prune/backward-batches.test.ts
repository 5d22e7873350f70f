import { measureCurvatures } from '../support/measure-curvatures.js';
import { loadTinyLlama, someWindows } from '../support/tiny-llama.js';

it('goes back with some of the batches as if there were no others', async () => {
  const loaded = await loadTinyLlama();
  const windows = someWindows(8, 24);
  const some = await measureCurvatures(loaded, windows, ({ index }) => index % 2 === 1);
  const alone = await measureCurvatures(loaded, [...windows.slice(2, 4), ...windows.slice(6, 8)]);
  expect(some).toEqual(alone);
});
