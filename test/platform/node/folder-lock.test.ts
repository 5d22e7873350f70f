import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isLocked, LOCK, lockFolder } from '../../../src/platform/node/folder-lock.js';
import { useTemporaryFolder } from '../../support/temporary-folder.js';

const folder = useTemporaryFolder();
const path = () => join(folder(), LOCK);

it('is free again when it was given back as often as it was taken', async () => {
  const [one, other] = [await lockFolder(folder(), 'out'), await lockFolder(folder(), 'out')];
  await one();
  expect(await isLocked(folder())).toBe(true);
  await other();
  expect(await isLocked(folder())).toBe(false);
  expect(await readdir(folder())).toEqual([]);
});

describe('a lock of another process', () => {
  /** A process that holds the lock as this one would. */
  async function holder() {
    const child = spawn(process.execPath, ['-e', 'process.stdout.write("ready"); setInterval(() => {}, 1000)']);
    await once(child.stdout, 'data');
    const give = await lockFolder(folder(), 'out');
    const { host } = JSON.parse(await readFile(path(), 'utf8'));
    await give();
    const stat = await readFile(`/proc/${child.pid}/stat`, 'utf8').catch(() => undefined);
    const began = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    await writeFile(path(), JSON.stringify({ pid: child.pid, host, began }));
    return { child, host };
  }

  it('is respected while that lives, and taken over when it was killed', async () => {
    const { child } = await holder();
    await expect(lockFolder(folder(), 'out')).rejects.toThrow(`Another run writes out: process ${child.pid}`);
    child.kill('SIGKILL');
    await once(child, 'exit');
    const give = await lockFolder(folder(), 'out');
    expect(JSON.parse(await readFile(path(), 'utf8')).pid).toBe(process.pid);
    await give();
  });

  it('is not taken for that of a younger process with the same number', async () => {
    const { child, host } = await holder();
    await writeFile(path(), JSON.stringify({ pid: child.pid, host, began: '1' }));
    expect(await isLocked(folder())).toBe(process.platform !== 'linux');
    child.kill('SIGKILL');
  });

  it('on another machine lasts as long as that gives signs of life', async () => {
    await writeFile(path(), JSON.stringify({ pid: 1, host: 'elsewhere' }));
    expect(await isLocked(folder())).toBe(true);
    const past = new Date(Date.now() - 120_000);
    await utimes(path(), past, past);
    await (await lockFolder(folder(), 'out'))();
  });
});
