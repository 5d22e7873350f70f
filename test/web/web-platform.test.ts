import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { createNodeEngine, prune } from '../../src/node.js';
import { runObserve } from '../../src/pipeline/run-observe.js';
import { runPrune } from '../../src/pipeline/run-prune.js';
import { createScratchWeights } from '../../src/storage/scratch-weights.js';
import { createWebPlatform, type PruneReport } from '../../src/web.js';
import { FakeDirectory } from '../support/fake-directory.js';
import { SHORT_LLAMA } from '../support/short-llama.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';
import { filesOf } from '../support/web-places.js';

const folder = useTemporaryFolder();
const unitsOf = ({ modules }: PruneReport) => modules.map(({ keep }) => keep);
const RUN = { sparsity: 0.3, method: 'flap', calibration: { windowCount: 2, windowLength: 24 } } as const;

it('prunes from a map into a map as Node.js does from a folder into a folder', async () => {
  const engine = await createNodeEngine();
  const out = join(folder(), 'out');
  const unchecked = { certify: false, evaluation: false, report: false } as const;
  const expected = await prune({ ...RUN, ...unchecked, engine, model: SHORT_LLAMA, out });
  const smaller = new Map<string, Uint8Array>();
  const platform = createWebPlatform({ folders: { model: filesOf(SHORT_LLAMA), smaller } });
  const report = await runPrune(platform, { ...RUN, engine, model: 'model', out: 'smaller', report: false });
  expect(unitsOf(report)).toEqual(unitsOf(expected));
  expect(report.certificate).toMatchObject({ passed: true, opened: true });
  const written = filesOf(out);
  expect([...smaller.keys()].sort()).toEqual([...written.keys()].sort());
  for (const [path, bytes] of written) expect(Buffer.from(smaller.get(path)!).equals(bytes)).toBe(true);
}, 240_000);

it('writes statistics, report and recipe to relative paths, and prunes from them', async () => {
  const engine = await createNodeEngine();
  const home = new FakeDirectory('opfs');
  const platform = createWebPlatform({ folders: { model: filesOf(SHORT_LLAMA) }, home });
  const { sparsity, ...measuring } = RUN;
  await runObserve(platform, { ...measuring, engine, model: '/model', out: 'kept/statistics' });
  const request = { engine, model: '/model', method: 'flap', sparsity, statistics: 'kept/statistics' };
  const places = { out: 'kept/smaller', recipe: 'kept/recipe' };
  await runPrune(platform, { ...request, ...places, certify: false, evaluation: false });
  for (const path of ['smaller/fang-prune-report.html', 'smaller/onnx/model.onnx', 'recipe/recipe.safetensors'])
    expect(await platform.files.kindOf(`/opfs/kept/${path}`)).toBe('file');
  const found = await Promise.all(
    ['kept', '.fang-prune-scratch', ''].map((path) => platform.files.list(`/opfs/${path}`)),
  );
  expect(found.map((entries) => entries.map(({ name }) => name))).toEqual([
    ['recipe', 'smaller', 'statistics'],
    [],
    ['.fang-prune-scratch', 'kept'],
  ]);
}, 240_000);

it('throws if there is no room for scratch space', async () => {
  const home = new FakeDirectory('opfs', { inPlace: true, room: 8 });
  const file = await createWebPlatform({ home }).createScratch();
  await file.write(0, new Uint8Array(8));
  await expect(file.write(8, new Uint8Array(8))).rejects.toThrow(/^Cannot write .* no space left/);
  await file.dispose();
});

it.each([
  ['in memory', undefined],
  ['in a directory', new FakeDirectory('opfs')],
])('keeps scratch space %s', async (_, scratch) => {
  const file = await createWebPlatform({ folders: {}, home: scratch }).createScratch();
  const bytes = Uint8Array.from({ length: 2 ** 21 + 5 }, (_, at) => at % 251);
  const [first, second] = [bytes.subarray(0, 2 ** 20 - 3), bytes];
  const store = createScratchWeights(file);
  const handles = [first, second].map((part) => store({ dataType: 2, dims: [part.byteLength] }, part.slice()));
  const found = await Promise.all(handles.map(async (handle) => (await handle).read()));
  expect(Buffer.from(found[0]!).equals(first)).toBe(true);
  expect(Buffer.from(found[1]!).equals(second)).toBe(true);
  await expect(file.readInto(3 * 2 ** 20, new Uint8Array(2 ** 20))).rejects.toThrow(/exceed the scratch space/);
  await file.dispose();
});

it('hashes as Node.js does', () => {
  const hash = createWebPlatform({ folders: {} }).createHash();
  const pieces = [1, 64, 1000].map((length) => new Uint8Array(length).fill(length));
  for (const piece of pieces) hash.update(piece);
  expect(hash.digest()).toBe(createHash('sha256').update(Buffer.concat(pieces)).digest('hex'));
});
