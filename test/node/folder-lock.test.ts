import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, rm, rmdir, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { OptionError } from '../../src/errors.js';
import { LOCK, lockFolder, tryLock } from '../../src/node/folder-lock.js';
import { lockWorkspaceFolder } from '../../src/node/workspace.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const path = () => join(folder(), LOCK);

const isFree = async () => {
  const found = await tryLock(folder());
  if ('release' in found) await found.release();
  return 'release' in found;
};

it('is held by one call at a time, and leaves no files', async () => {
  const lock = await lockFolder(folder(), 'out');
  await expect(lockFolder(folder(), 'out')).rejects.toThrow(
    /^Another run writes out: another call in this process\. Wait/,
  );
  expect(await isFree()).toBe(false);
  await lock.release();
  expect(await isFree()).toBe(true);
  expect(await readdir(folder())).toEqual([]);
});

it('is acquired by one of many concurrent calls', async () => {
  for (let round = 0; round < 10; round += 1) {
    const ends = await Promise.allSettled(Array.from({ length: 8 }, () => lockFolder(folder(), 'out')));
    const acquired = ends.flatMap((end) => (end.status === 'fulfilled' ? [end.value] : []));
    expect(acquired.length).toBe(1);
    for (const end of ends) if (end.status === 'rejected') expect(end.reason).toBeInstanceOf(OptionError);
    await acquired[0]!.release();
  }
  expect(await readdir(folder())).toEqual([]);
});

it('locks a workspace whose folder an ending run removes meanwhile', async () => {
  const workspace = join(folder(), 'out.partial');
  for (let round = 0; round < 200; round++) {
    const removing = [1, 2].map(() => rmdir(workspace).catch(() => undefined));
    const { release } = await lockWorkspaceFolder(workspace, 'out');
    await Promise.all(removing);
    await release();
    const [lock] = await Promise.all([
      lockWorkspaceFolder(workspace, 'out'),
      setImmediate().then(() => rmdir(workspace).catch(() => undefined)),
    ]);
    await lock.release();
  }
});

it('throws from check when it was lost', async () => {
  const lock = await lockFolder(folder(), 'out');
  await lock.check();
  for (const name of await readdir(folder())) await rm(join(folder(), name));
  await expect(lock.check()).rejects.toThrow(/is gone: another machine considered/);
  await lock.release();
});

describe('a lock of a worker thread', () => {
  /** Takes the lock by another instance of the module, as in applications that load it as ES module and as CommonJS. */
  async function holdInThread(): Promise<Worker> {
    const { build } = await import('esbuild');
    const { outputFiles } = await build({
      entryPoints: ['src/node/folder-lock.ts'],
      bundle: true,
      write: false,
      platform: 'node',
      format: 'cjs',
      target: 'node20',
    });
    const code = `${outputFiles[0]!.text}
      const { parentPort, workerData } = require('node:worker_threads');
      module.exports.lockFolder(workerData, 'out').then(() => { parentPort.postMessage('held'); for (;;); });`;
    const worker = new Worker(code, { eval: true, workerData: folder() });
    await once(worker, 'message');
    return worker;
  }

  it('is respected while the thread is busy, and free once it is terminated', async () => {
    const worker = await holdInThread();
    await expect(lockFolder(folder(), 'out')).rejects.toThrow(/another call in this process/);
    await worker.terminate();
    const lock = await lockFolder(folder(), 'out');
    await lock.release();
    expect(await readdir(folder())).toEqual([]);
  });
});

describe('a lock of another process', () => {
  /** A process that holds the lock as this one would. */
  async function holder() {
    const child = spawn(process.execPath, ['-e', 'process.stdout.write("ready"); setInterval(() => {}, 1000)']);
    await once(child.stdout, 'data');
    const stat = await readFile(`/proc/${child.pid}/stat`, 'utf8').catch(() => undefined);
    const began = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    await writeFile(path(), JSON.stringify({ pid: child.pid, host: hostname(), began }));
    return child;
  }

  it('is respected while the process lives, and taken over once it is killed', async () => {
    const child = await holder();
    await expect(lockFolder(folder(), 'out')).rejects.toThrow(`Another run writes out: process ${child.pid}`);
    expect(await readdir(folder())).toEqual([LOCK]);
    child.kill('SIGKILL');
    await once(child, 'exit');
    const lock = await lockFolder(folder(), 'out');
    const [name, ...others] = await readdir(folder());
    expect(others).toEqual([]);
    expect(JSON.parse(await readFile(join(folder(), name!), 'utf8')).pid).toBe(process.pid);
    await lock.release();
  }, 20_000);

  it('is free if a younger process has its id', async () => {
    const child = await holder();
    await writeFile(path(), JSON.stringify({ pid: child.pid, host: hostname(), began: '1' }));
    expect(await isFree()).toBe(process.platform === 'linux');
    child.kill('SIGKILL');
  });

  it.each([
    ['another machine', { pid: 1, host: 'elsewhere' }],
    ['another container', { pid: process.pid, host: hostname(), pidNamespace: 'pid:[1]' }],
  ])('is respected on %s until its file is two minutes old', async (_, holder) => {
    await writeFile(path(), JSON.stringify(holder));
    expect(await isFree()).toBe(false);
    const past = new Date(Date.now() - 120_000);
    await utimes(path(), past, past);
    expect(await isFree()).toBe(true);
  });

  it('is respected while its contents are not written yet, for a limited time', async () => {
    await writeFile(path(), '');
    expect(await isFree()).toBe(false);
    const past = new Date(Date.now() - 10_000);
    await utimes(path(), past, past);
    expect(await isFree()).toBe(true);
  });
});

describe('an invalid lock file', () => {
  it.each([
    'no JSON',
    'null',
    '[]',
    '{"pid": -1, "host": "x"}',
    JSON.stringify({ pid: 1e300, host: hostname() }),
    '{"pid": 7, "host": 7}',
    JSON.stringify({ pid: 2 ** 30, host: hostname() }),
    JSON.stringify({ pid: 2 ** 53, host: hostname() }),
    JSON.stringify({ pid: process.pid, host: hostname() }),
    JSON.stringify({ pid: process.pid, host: hostname(), began: {}, descriptor: 'x' }),
    '['.repeat(60_000),
  ])('is removed if no run holds it (%#)', async (contents) => {
    await writeFile(path(), contents);
    await (await lockWorkspaceFolder(folder(), 'out')).release();
  });

  it.each<readonly [string, () => Promise<unknown>]>([
    ['a folder', () => mkdir(path())],
    ['a link', () => symlink(process.execPath, path())],
    ['a huge file', () => writeFile(path(), '').then(() => truncate(path(), 2 ** 34))],
  ])('is refused if it is %s', async (_, make) => {
    await make();
    await expect(lockWorkspaceFolder(folder(), 'out')).rejects.toThrow(/contains run\.lock, which no run wrote/);
    expect(await readdir(folder())).toEqual([LOCK]);
  });
});
