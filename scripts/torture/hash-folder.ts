import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Hashes names and contents, except for reports, which contain times. */
export function hashFolder(folder: string, leftOut = /fang-prune-report\.(json|html)$/): string {
  const hash = createHash('sha256');
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
    const path = join(folder, name);
    if (!statSync(path).isFile() || leftOut.test(name)) continue;
    hash.update(`${name}\n`).update(readFileSync(path));
  }
  return hash.digest('hex');
}
