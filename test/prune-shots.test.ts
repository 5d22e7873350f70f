import { OptionError } from '../src/errors.js';
import { type PruneOptions, resolveOptions } from '../src/options.js';
import type { PruneOutcome } from '../src/prune/job.js';
import { gapToMasked } from './support/masked.js';
import { loadFusedLlama, loadShortLlama } from './support/short-llama.js';
import { bytesOf, type Loaded, pruneLoaded, someWindows } from './support/tiny-llama.js';

let loaded: Loaded;
/** All six blocks, for tests that two are too few for. */
let whole: Loaded;
beforeAll(async () => {
  [loaded, whole] = [await loadShortLlama(), await loadFusedLlama()];
});

const run = (options: Partial<PruneOptions>, model = loaded): Promise<PruneOutcome> =>
  pruneLoaded(model, { sparsity: 0.4, modules: 'ffn', ...options }, { windows: someWindows(4, 16) });
const widths = ({ modules }: PruneOutcome) =>
  modules.filter(({ module }) => module.kind === 'ffn').map(({ keep }) => keep.length);
const removed = ({ modules }: PruneOutcome) =>
  modules
    .filter(({ module }) => module.kind === 'ffn')
    .reduce((sum, { module, keep }) => sum + module.unitCount - keep.length, 0);

it.each(['auto', 'o-fang'])('meets the budget in two shots, and equals the masked original (%s)', async (method) => {
  const outcome = await run({ method, shots: 2 });
  expect(Math.abs(removed(outcome) - 0.4 * 2 * 256)).toBeLessThanOrEqual(2);
  for (const { module, keep } of outcome.modules) {
    expect(loaded.analysed.detected.layout.modules).toContain(module);
    expect(keep.every((unit, at) => unit < 256 && (at === 0 || unit > keep[at - 1]!))).toBe(true);
  }
  expect(await gapToMasked(loaded, outcome)).toBeLessThan(1e-4);
});

it('adds up biases, prunes heads, and gives the same bytes in a second run', async () => {
  const twice = () => run({ method: 'flap', modules: 'all', shots: 2, sparsity: 0.5 });
  const [first, second] = [await twice(), await twice()];
  expect(Buffer.compare(await bytesOf(first.model), await bytesOf(second.model))).toBe(0);
  expect(widths(first)).toEqual(Array(2).fill(128));
  const heads = first.modules.filter(({ module }) => module.kind === 'attention');
  expect(heads.map(({ keep }) => keep.length)).toEqual(Array(2).fill(4));
  expect(await gapToMasked(loaded, first)).toBeLessThan(1e-4);
});

it('removes other units in two shots than in one, which is the default', async () => {
  const [plain, one, two] = [
    await run({ method: 'flap' }, whole),
    await run({ method: 'flap', shots: 1 }, whole),
    await run({ method: 'flap', shots: 2 }, whole),
  ];
  expect(Buffer.compare(await bytesOf(one.model), await bytesOf(plain.model))).toBe(0);
  expect(two.modules.map(({ keep }) => [...keep])).not.toEqual(one.modules.map(({ keep }) => [...keep]));
});

it('applies minimumWidth and blockSparsity to the widths of the dense model', async () => {
  const global = { method: 'flap', allocation: 'global', shots: 2 } as const;
  const floored = await run({ ...global, minimumWidth: 0.5, blockSparsity: { 0: 0 } }, whole);
  expect(floored.modules.map(({ module }) => module.block)).not.toContain(0);
  expect(Math.min(...widths(floored))).toBeGreaterThanOrEqual(256);
  expect(Math.abs(removed(floored) - 0.4 * 6 * 512)).toBeLessThanOrEqual(1);
  const removedFfn = await run(
    { ...global, minimumWidth: 0, blockSparsity: { 2: { ffn: 1 }, 3: { ffn: 0.25 } } },
    whole,
  );
  expect(
    removedFfn.modules.filter(({ module }) => [2, 3].includes(module.block)).map(({ keep }) => keep.length),
  ).toEqual([0, 384]);
  expect(await gapToMasked(whole, removedFfn)).toBeLessThan(1e-4);
});

it('refuses shots that are not a positive integer', () => {
  for (const shots of [0, 1.5]) expect(() => resolveOptions({ sparsity: 0.3, shots })).toThrow(OptionError);
});
