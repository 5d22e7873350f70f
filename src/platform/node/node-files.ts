import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { Entry, Files } from '../platform.js';
import { appendToFile } from './append-to-file.js';
import { buildFolder } from './atomic-folder.js';
import { checkOutput } from './check-output.js';
import { createFileSink } from './file-sink.js';
import { openFileSource } from './file-source.js';
import { kindOf, relativeInside } from './paths.js';
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
  create: createFileSink,
  append: appendToFile,
  writeTogether,
  checkOutput,
  buildFolder,
};

function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isFile(),
    () => false,
  );
}
