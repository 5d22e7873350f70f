import { access, constants, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { OptionError } from '../errors.js';
import type { Addition, Entry, Files } from '../runtime/platform.js';
import { writing } from '../runtime/writing.js';
import { buildFolder } from './atomic-folder.js';
import { listFile } from './built-files.js';
import { checkNames, checkNew, checkOutput } from './check-output.js';
import { createFileSink } from './file-sink.js';
import { openFileSource } from './file-source.js';
import { kindOf, relativeInside, resolveLinks } from './paths.js';
import { syncFolder } from './sync-file.js';

/** The file system. Links to files are followed, since model caches consist of links. */
export const nodeFiles: Files = {
  resolve,
  split: (path) => ({ folder: dirname(path), name: basename(path) }),
  relative: relativeInside,
  kindOf,
  async list(folder) {
    const entries: Entry[] = [];
    for (const found of await readdir(folder, { withFileTypes: true })) {
      const { name } = found;
      if (found.isDirectory()) entries.push({ name, kind: 'folder' });
      else if (found.isFile() || (await isFile(join(folder, name)))) entries.push({ name, kind: 'file' });
    }
    return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  },
  open: openFileSource,
  create: (path) => createFileSink(path),
  append: appendToFile,
  writeTogether,
  checkOutput,
  checkFile,
  real: resolveLinks,
  stamp,
  buildFolder,
};

/** @see Files.checkFile */
async function checkFile(path: string): Promise<void> {
  checkNames(path, path);
  const kind = await kindOf(path);
  if (kind === 'folder') throw new OptionError(`Cannot write ${path}: it is a folder. Name a file.`);
  if (kind === 'file') await writing(path, () => access(path, constants.W_OK));
  await checkNew(path, { name: path, kind: 'file' });
}

/** @see Files.stamp */
async function stamp(path: string): Promise<string | undefined> {
  const stats = await stat(path, { bigint: true }).catch(() => undefined);
  return stats && `${stats.size} bytes, ${stats.mtime.toISOString()} (${stats.dev}:${stats.ino}:${stats.mtimeNs})`;
}

function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isFile(),
    () => false,
  );
}

/** The file is opened for each write: in between it may be moved, or written by another run. @see Files.append */
function appendToFile(path: string, { text, start, expectedBytes }: Addition): Promise<number> {
  return writing(path, async () => {
    await mkdir(dirname(path), { recursive: true });
    const file = await open(path, 'a');
    try {
      const { size } = await file.stat();
      if (size !== expectedBytes)
        throw new Error(`it has ${size} bytes, not ${expectedBytes}: another program writes to it`);
      await file.truncate(start);
      await file.appendFile(text);
      return (await file.stat()).size;
    } finally {
      await file.close();
    }
  });
}

/** Suffix of incomplete files: constant, so that the next run replaces files of an interrupted one. */
const suffix = '.fang-prune-partial';

/** @see Files.writeTogether */
async function writeTogether(files: Parameters<Files['writeTogether']>[0]): Promise<void> {
  try {
    for (const [path, write] of files) {
      await listFile(path);
      const sink = await createFileSink(path + suffix);
      await write(sink).finally(() => sink.close());
    }
    for (const path of files.keys()) await writing(path, () => rename(path + suffix, path));
    for (const folder of new Set(Array.from(files.keys(), dirname))) await syncFolder(folder);
  } finally {
    await Promise.all([...files.keys()].map((path) => rm(path + suffix, { force: true })));
  }
}
