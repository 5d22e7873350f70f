import { access, constants, readdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { OptionError } from '../../errors.js';
import type { Entry, Files } from '../platform.js';
import { writing } from '../writing.js';
import { appendToFile } from './append-to-file.js';
import { buildFolder } from './atomic-folder.js';
import { checkNames, checkNew, checkOutput } from './check-output.js';
import { createFileSink } from './file-sink.js';
import { openFileSource } from './file-source.js';
import { kindOf, relativeInside, resolveLinks } from './paths.js';
import { writeTogether } from './write-together.js';

/** Files of the system. Links to files are followed: caches of downloaded models consist of links. */
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
