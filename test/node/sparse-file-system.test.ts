import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { nodeFiles } from '../../src/node/node-files.js';
import { openWorkspace } from '../../src/node/workspace.js';
import { FILE_CALLS as real, replaceFileCalls } from '../support/replace-file-calls.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const failing = (code: string) => async () => {
  throw Object.assign(new Error(`${code}: not supported`), { code });
};
/** Calls that the file system lacks, with the codes of their errors. */
let missingCalls: Readonly<Record<string, string>> = {};
const unlessMissing =
  (name: 'link' | 'symlink' | 'utimes' | 'statfs') =>
  (...given: readonly unknown[]): unknown =>
    missingCalls[name] === undefined
      ? (real[name] as (...given: readonly unknown[]) => unknown)(...given)
      : failing(missingCalls[name]!)();

replaceFileCalls({
  link: unlessMissing('link'),
  symlink: unlessMissing('symlink'),
  utimes: unlessMissing('utimes'),
  statfs: unlessMissing('statfs'),
  async open(path: string, flags?: string) {
    const file: FileHandle = await real.open(path, flags);
    const isFolder = (await file.stat()).isDirectory();
    const code = missingCalls[isFolder ? 'fsync of folders' : 'fsync'];
    return code === undefined ? file : Object.assign(file, { sync: failing(code), datasync: failing(code) });
  },
});

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

/** Makes all calls of files that a run makes. */
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
])('writes all files on a file system without %j', async (lacks) => {
  missingCalls = lacks;
  try {
    await makeAll();
  } finally {
    missingCalls = {};
  }
  expect(await listFiles(folder())).toEqual(
    ['fang-prune-files.json', 'model.onnx', 'report.json'].map((name) => `out/${name}`),
  );
});

it('throws if fsync fails with EIO', async () => {
  missingCalls = { fsync: 'EIO' };
  await expect(makeAll()).rejects.toThrow(/^Cannot write .*EIO.*The disk, or the connection to it, fails/);
  missingCalls = {};
});
