import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A model's files, as a page would have them. */
export function filesOf(root: string): Map<string, Uint8Array> {
  const paths = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const found = paths.map((entry) => join(entry.parentPath, entry.name));
  return new Map(found.map((path) => [path.slice(root.length + 1), new Uint8Array(readFileSync(path))]));
}
