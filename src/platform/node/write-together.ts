import { rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Files } from '../platform.js';
import { writing } from '../writing.js';
import { listFile } from './built-files.js';
import { createFileSink } from './file-sink.js';
import { syncFolder } from './sync-file.js';

/** Ends the names of files that are not complete: always the same, so that the next run replaces what one that was killed left. */
const suffix = '.fang-prune-partial';

/** @see Files.writeTogether */
export const writeTogether: Files['writeTogether'] = async (files) => {
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
};
