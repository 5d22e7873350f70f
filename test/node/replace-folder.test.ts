import { mkdir, readdir, readFile, rename, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../../src/errors.js';
import { nodeFiles } from '../../src/node/node-files.js';
import { MANIFEST } from '../../src/runtime/folder-manifest.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

const build = (content: string, meanwhile?: () => Promise<unknown>) =>
  nodeFiles.buildFolder({ output: at('out'), source: at('in'), force: true }, async (partial) => {
    for (const file of ['onnx/model.onnx', 'fang-prune-report.json']) await write(join(partial, file), content);
    await meanwhile?.();
  });
const write = async (path: string, text: string) => {
  const sink = await nodeFiles.create(path);
  await sink.write(new TextEncoder().encode(text)).finally(() => sink.close());
};
const content = (path = 'out/onnx/model.onnx') => readFile(at(path), 'utf8');

it('lists the written files in a manifest, and replaces them', async () => {
  await build('one');
  expect(JSON.parse(await content(`out/${MANIFEST}`))).toMatchObject({
    schema: 'fang-prune-files/1',
    version: expect.any(String),
    files: [{ path: 'fang-prune-report.json' }, { path: 'onnx/model.onnx', byteLength: 3 }],
  });
  // Measurements may have been added to the report.
  await writeFile(at('out/fang-prune-report.json'), 'a longer report');
  await build('two');
  expect(await content()).toBe('two');
  expect(await listFiles(folder())).toEqual([
    ...['fang-prune-files.json', 'fang-prune-report.json', 'onnx/model.onnx'].map((file) => `out/${file}`),
  ]);
});

/** Changes of a result by its user, and the reasons of the refusals. */
const OBSTACLES: Readonly<Record<string, readonly [() => Promise<unknown>, RegExp]>> = {
  'a file of the user': [() => writeFile(at('out/onnx/notes.txt'), 'mine'), /does not list onnx\/notes\.txt/],
  'an empty folder': [() => mkdir(at('out/photos')), /does not list photos\//],
  'a link to a file': [() => symlink(at('precious'), at('out/link')), /does not list link/],
  'a link to a folder': [() => symlink(folder(), at('out/home')), /does not list home/],
  'a link in the place of a file': [
    () => rename(at('out/onnx/model.onnx'), at('x')).then(() => symlink(at('x'), at('out/onnx/model.onnx'))),
    /onnx\/model\.onnx in it is not a plain file/,
  ],
  'a file that a forged manifest lists without its size': [
    async () => {
      await writeFile(at('out/onnx/thesis.txt'), 'mine');
      const manifest = JSON.parse(await content(`out/${MANIFEST}`));
      const files = [...manifest.files, { path: 'onnx/thesis.txt' }];
      await writeFile(at(`out/${MANIFEST}`), JSON.stringify({ ...manifest, files }));
    },
    /does not say how many bytes of onnx\/thesis\.txt were written/,
  ],
  'a changed file': [() => truncate(at('out/onnx/model.onnx'), 2), /has 2 bytes, and 3 were written/],
  'no manifest': [() => rename(at(`out/${MANIFEST}`), at('x')), /holds fang-prune-report\.json, and no/],
  'a damaged manifest': [() => writeFile(at(`out/${MANIFEST}`), '{"files": 3}'), /and no fang-prune-files/],
  'a manifest behind a link': [
    () => rename(at(`out/${MANIFEST}`), at('x')).then(() => symlink(at('x'), at(`out/${MANIFEST}`))),
    /and no fang-prune-files/,
  ],
};

it.each(Object.keys(OBSTACLES))('changes nothing if it finds %s', async (name) => {
  const [change, reason] = OBSTACLES[name]!;
  await writeFile(at('precious'), 'precious');
  await build('one');
  await change();
  const before = await listFiles(folder());
  let hasBegun = false;
  const replaced = build('two', async () => {
    hasBegun = true;
  });
  await expect(replaced).rejects.toThrow(OptionError);
  await expect(replaced).rejects.toThrow(reason);
  expect(hasBegun).toBe(false);
  expect(await listFiles(folder())).toEqual(before);
  expect(await content('precious')).toBe('precious');
});

it.each(['force', 'no force'])('refuses a link as a folder (%s)', async (how) => {
  await build('one');
  await symlink(at('out'), at('link'));
  const request = { output: at('link'), source: at('in'), force: how === 'force' };
  await expect(nodeFiles.buildFolder(request, async () => undefined)).rejects.toThrow(/link is a link/);
  expect(await content()).toBe('one');
});

it('keeps a file that was added to the folder while the new one was built', async () => {
  await build('one');
  await expect(build('two', () => writeFile(at('out/late.txt'), 'mine'))).rejects.toThrow(/does not list late\.txt/);
  expect([await content(), await content('out/late.txt')]).toEqual(['one', 'mine']);
  expect((await listFiles(folder())).every((file) => file.startsWith('out/'))).toBe(true);
});

it('restores the old folder of a run that was killed between two renames', async () => {
  await build('one');
  await mkdir(at('out.partial/result'), { recursive: true });
  await rename(at('out'), at('out.partial/replaced'));
  await expect(nodeFiles.checkOutput({ output: at('out'), source: at('in') })).rejects.toThrow('exists');
  expect(await content()).toBe('one');
  await build('two');
  expect(await content()).toBe('two');
  expect(await readdir(folder())).not.toContain('out.partial');
});

describe('early checks', () => {
  const check = (output: string, byteLength?: number) =>
    nodeFiles.checkOutput({ output: at(output), source: at('in'), byteLength });

  it('refuse names that are too long', async () => {
    await expect(check('ü'.repeat(120))).rejects.toThrow(/bytes too long/);
    await expect(check(`${'a'.repeat(256)}/out`)).rejects.toThrow(/1 bytes too long/);
    expect(await check('a'.repeat(200))).toBe(at('a'.repeat(200)));
    await expect(nodeFiles.checkFile(at(`${'a'.repeat(250)}.json`))).rejects.toThrow(OptionError);
  });

  it('refuse results larger than the free space, naming both sizes', async () => {
    await expect(check('out', 1e18)).rejects.toThrow(/at least 1000000000000000000 bytes, and .* has \d+ free/);
    expect(await check('out', 1000)).toBe(at('out'));
  });

  it('refuse files that cannot be created', async () => {
    await mkdir(at('taken.json'));
    await expect(nodeFiles.checkFile(at('taken.json'))).rejects.toThrow(/is a folder/);
    if (process.platform === 'linux')
      await expect(nodeFiles.checkFile('/proc/report.json')).rejects.toThrow(/no file can be created in \/proc/);
    await nodeFiles.checkFile(at('new/folder/report.json'));
    expect(await listFiles(folder())).toEqual([]);
  });
});
