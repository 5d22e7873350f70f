import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { nodeFiles } from '../../src/node/node-files.js';
import { openWorkspace } from '../../src/node/workspace.js';
import { FILE_CALLS as real, replaceFileCalls } from '../support/replace-file-calls.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const failing = (code: string) => async () => {
  throw Object.assign(new Error(`${code}: not supported`), { code });
};
/** What the file system lacks, by the name of its call, and the error that it gives instead. */
let lacking: Readonly<Record<string, string>> = {};
const orLacking =
  (name: 'link' | 'symlink' | 'utimes' | 'statfs') =>
  (...given: readonly unknown[]): unknown =>
    lacking[name] === undefined
      ? (real[name] as (...given: readonly unknown[]) => unknown)(...given)
      : failing(lacking[name]!)();

replaceFileCalls({
  link: orLacking('link'),
  symlink: orLacking('symlink'),
  utimes: orLacking('utimes'),
  statfs: orLacking('statfs'),
  async open(path: string, flags?: string) {
    const file: FileHandle = await real.open(path, flags);
    const isFolder = (await file.stat()).isDirectory();
    const code = lacking[isFolder ? 'fsync of folders' : 'fsync'];
    return code === undefined ? file : Object.assign(file, { sync: failing(code), datasync: failing(code) });
  },
});

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

/** All that a run does with files. */
async function makeAll(): Promise<void> {
  const workspace = await openWorkspace({ output: at('out'), key: 'a', resume: true });
  await workspace.journal.write('kept', [Float32Array.of(1, 2)]);
  await workspace.journal.settle();
  const request = { output: at('out'), source: at('in'), workspace };
  const write = { write: async (sink: { write(bytes: Uint8Array): Promise<void> }) => sink.write(Uint8Array.of(1)) };
  await nodeFiles.buildFolder(request, async (partial) => {
    const sink = await nodeFiles.create(join(partial, 'model.onnx'));
    await sink.write(Uint8Array.of(1)).finally(() => sink.close());
    await nodeFiles.writeTogether(new Map([[join(partial, 'report.json'), write.write]]));
  });
  await workspace.close(true);
}

it.each<Readonly<Record<string, string>>>([
  { link: 'EPERM', symlink: 'EPERM' },
  { link: 'EOPNOTSUPP', statfs: 'ENOSYS' },
  { fsync: 'ENOSYS', 'fsync of folders': 'ENOSYS' },
  { fsync: 'EINVAL', 'fsync of folders': 'EINVAL', utimes: 'EPERM' },
  { fsync: 'ENOTSUP', 'fsync of folders': 'EISDIR' },
  { fsync: 'EOPNOTSUPP', 'fsync of folders': 'EPERM' },
])('writes all where a file system lacks %j', async (lacks) => {
  lacking = lacks;
  try {
    await makeAll();
  } finally {
    lacking = {};
  }
  expect(await listFiles(folder())).toEqual(
    ['fang-prune-files.json', 'model.onnx', 'report.json'].map((name) => `out/${name}`),
  );
});

it('does not take a disk that fails for one that cannot', async () => {
  lacking = { fsync: 'EIO' };
  await expect(makeAll()).rejects.toThrow(/^Cannot write .*EIO.*The disk, or the connection to it, fails/);
  lacking = {};
});
