import { appendFile, mkdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../../src/errors.js';
import { nodePlatform } from '../../src/node/node-platform.js';
import { checkWindowsPath, formatWindowsFile, openWindowsFile } from '../../src/storage/windows-file.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const { files } = nodePlatform;
const folder = useTemporaryFolder();
const origin = { modelSha256: 'ab12', seed: 0, startToken: 7, temperature: 1, documentLength: 128, windowLength: 3 };
const windows = [1, 2, 3].map((id) => Int32Array.of(7, id, id));
const path = () => join(folder(), 'kept', 'windows.jsonl');

it('saves windows batch by batch, and resumes from them', async () => {
  const first = await openWindowsFile(files, path(), origin);
  expect(first.saved).toEqual([]);
  await first.append(windows.slice(0, 1));
  await first.append(windows.slice(1, 2));
  const second = await openWindowsFile(files, path(), origin);
  expect(second.saved).toEqual(windows.slice(0, 2));
  await second.append(windows.slice(2));
  expect(await readFile(path(), 'utf8')).toBe(formatWindowsFile(windows, origin));
});

it('rewrites windows that were cut off', async () => {
  const first = await openWindowsFile(files, path(), origin);
  await first.append(windows);
  const whole = await readFile(path(), 'utf8');
  await truncate(path(), whole.length - 5);
  const second = await openWindowsFile(files, path(), origin);
  expect(second.saved).toEqual(windows.slice(0, 2));
  await second.append(windows.slice(2));
  expect(await readFile(path(), 'utf8')).toBe(whole);
  await truncate(path(), 9);
  expect((await openWindowsFile(files, path(), origin)).saved).toEqual([]);
  expect(await readFile(path(), 'utf8')).toBe(formatWindowsFile([], origin));
});

it('does not change a file of another run', async () => {
  await (await openWindowsFile(files, path(), origin)).append(windows);
  const before = await readFile(path(), 'utf8');
  await expect(openWindowsFile(files, path(), { ...origin, seed: 1 })).rejects.toThrow(
    /another run: seed 0 \(here 1\)/,
  );
  expect(await readFile(path(), 'utf8')).toBe(before);
  const text = join(folder(), 'texts.jsonl');
  await writeFile(text, '{"text":"mine"}\n');
  await expect(openWindowsFile(files, text, origin)).rejects.toThrow(OptionError);
  expect(await readFile(text, 'utf8')).toBe('{"text":"mine"}\n');
});

it('throws if something else writes to the file', async () => {
  const store = await openWindowsFile(files, path(), origin);
  await appendFile(path(), 'x');
  await expect(store.append(windows)).rejects.toThrow(/another program writes to it/);
});

it('refuses a path that is a folder', async () => {
  await mkdir(path(), { recursive: true });
  await expect(openWindowsFile(files, path(), origin)).rejects.toThrow(OptionError);
});

it('refuses a new file in the output folder', async () => {
  const output = join(folder(), 'out');
  await expect(checkWindowsPath(files, join(output, 'windows.jsonl'), output)).rejects.toThrow(
    /is in the output folder/,
  );
  await expect(checkWindowsPath(files, join(folder(), 'windows.jsonl'), output)).resolves.toBeUndefined();
  await mkdir(output);
  await writeFile(join(output, 'windows.jsonl'), '');
  await expect(checkWindowsPath(files, join(output, 'windows.jsonl'), output)).resolves.toBeUndefined();
});
