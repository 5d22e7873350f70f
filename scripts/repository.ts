/**
 * Writes the repository's URL to package.json and the README's links. Set it here once before publishing, and call
 * `npm run repository`.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

/** Owner and name on GitHub. Provenance names it. */
const REPOSITORY = 'fang-prune/fang-prune';

/** URL of the repository's files. The README's links begin with it, since the package does not contain the pages. */
export const SOURCES = `https://github.com/${REPOSITORY}/blob/main/`;

/** Fields of package.json. */
export const REPOSITORY_FIELDS = {
  repository: { type: 'git', url: `git+https://github.com/${REPOSITORY}.git` },
  homepage: `https://github.com/${REPOSITORY}#readme`,
  bugs: { url: `https://github.com/${REPOSITORY}/issues` },
} as const;

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const fields = JSON.parse(readFileSync('package.json', 'utf8')) as Record<string, unknown>;
  writeFileSync('package.json', `${JSON.stringify({ ...fields, ...REPOSITORY_FIELDS }, undefined, 2)}\n`);
  const readme = readFileSync('README.md', 'utf8');
  writeFileSync('README.md', readme.replaceAll(/https:\/\/github\.com\/[\w-]+\/[\w.-]+\/blob\/main\//g, SOURCES));
}
