/** Writes into package.json where the sources are; whoever publishes sets it here, once, and calls `npm run repository`. */
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

/** Owner and name on GitHub. npm resolves the README's links by it, and provenance names it. */
const REPOSITORY = 'fang-prune/fang-prune';

/** What package.json says of it. */
export const REPOSITORY_FIELDS = {
  repository: { type: 'git', url: `git+https://github.com/${REPOSITORY}.git` },
  homepage: `https://github.com/${REPOSITORY}#readme`,
  bugs: { url: `https://github.com/${REPOSITORY}/issues` },
} as const;

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const fields = JSON.parse(readFileSync('package.json', 'utf8')) as Record<string, unknown>;
  writeFileSync('package.json', `${JSON.stringify({ ...fields, ...REPOSITORY_FIELDS }, undefined, 2)}\n`);
}
