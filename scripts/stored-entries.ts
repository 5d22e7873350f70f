import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** JSON files of a folder, each an object of entries by name. */
export function storedEntries<Entry>(folder: string) {
  const fileOf = (name: string): string => join(folder, `${name}.json`);
  const read = (name: string): Readonly<Record<string, Entry>> =>
    existsSync(fileOf(name)) ? JSON.parse(readFileSync(fileOf(name), 'utf8')) : {};
  return {
    /** Entries of one file; empty without a file. */
    read,
    /** All files by name. */
    readAll(): readonly (readonly [name: string, entries: Readonly<Record<string, Entry>>])[] {
      if (!existsSync(folder)) return [];
      const names = readdirSync(folder).flatMap((file) => /^(.+)\.json$/.exec(file)?.[1] ?? []);
      return names.sort().map((name) => [name, read(name)] as const);
    },
    /** Stores one entry. The file is complete at any time, and keeps entries that other processes wrote meanwhile. */
    store(name: string, id: string, entry: Entry): void {
      mkdirSync(folder, { recursive: true });
      const unfinished = `${fileOf(name)}.${process.pid}`;
      writeFileSync(unfinished, `${JSON.stringify({ ...read(name), [id]: entry }, null, 1)}\n`);
      renameSync(unfinished, fileOf(name));
    },
  };
}
