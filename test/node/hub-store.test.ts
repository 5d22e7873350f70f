import { lstat, readFile } from 'node:fs/promises';
import path, { join } from 'node:path';
import { createHubStore, readHubSettings } from '../../src/node/hub-store.js';
import { relativeBy } from '../../src/node/paths.js';
import type { HubFile } from '../../src/runtime/hub-store.js';
import { replaceFileCalls } from '../support/replace-file-calls.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
replaceFileCalls({
  async symlink() {
    throw Object.assign(new Error('operation not permitted, symlink'), { code: 'EPERM' });
  },
});

describe('variables of the Hub', () => {
  it.each([
    [{}, { endpoint: 'https://huggingface.co', offline: false }],
    [{ HF_ENDPOINT: 'http://mirror/hf//' }, { endpoint: 'http://mirror/hf' }],
    [
      { HF_HUB_OFFLINE: 'True', HF_TOKEN: ' hf_a\n' },
      { offline: true, token: 'hf_a' },
    ],
    [
      { HF_HUB_OFFLINE: '0', HUGGING_FACE_HUB_TOKEN: 'hf_b' },
      { offline: false, token: 'hf_b' },
    ],
  ])('are read from %j', (env, settings) =>
    expect(readHubSettings({ HF_HOME: folder(), ...env })).toMatchObject(settings),
  );
});

it('has files instead of links if the system refuses links, as Windows may', async () => {
  const store = createHubStore({ HF_HUB_CACHE: folder() });
  const commit = { repo: 'me/tiny', commit: '0'.repeat(40) };
  const file: HubFile = { path: 'onnx/model.onnx', byteLength: 3, hash: 'a'.repeat(64), algorithm: 'sha256' };
  const incoming = await store.receive(commit, file);
  await incoming.write(Uint8Array.of(1, 2, 3));
  await incoming.complete();
  await incoming.close();
  const name = join(store.folderOf(commit), 'onnx/model.onnx');
  expect((await lstat(name)).isFile()).toBe(true);
  expect([...(await readFile(name))]).toEqual([1, 2, 3]);
  expect(await store.has(commit, file)).toBe(true);
});

describe('a path inside a folder', () => {
  it.each([
    ['C:\\models\\a', 'C:\\models\\a\\onnx\\model.onnx', 'onnx/model.onnx'],
    // Windows is case-insensitive.
    ['C:\\Models', 'c:\\models\\A', 'A'],
    ['C:\\models', 'C:\\models', ''],
    ['C:\\models', 'C:\\models-2', undefined],
    ['C:\\models', 'D:\\models\\a', undefined],
    ['\\\\server\\share\\a', '\\\\server\\share\\b', undefined],
  ])('on Windows: of %s, %s', (outer, inner, inside) => expect(relativeBy(path.win32)(outer, inner)).toBe(inside));

  it('is case-sensitive elsewhere', () => expect(relativeBy(path.posix)('/Models', '/models/a')).toBeUndefined());
});
