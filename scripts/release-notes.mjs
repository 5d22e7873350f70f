/** Prints the changelog's part of the version in package.json. Fails if it has none, or is not released. */
import { readFileSync } from 'node:fs';

const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
const parts = readFileSync('CHANGELOG.md', 'utf8').split(/^## /m);
const part = parts.find((text) => text.split(/[\s(]/, 1)[0] === version);
if (part === undefined) throw new Error(`CHANGELOG.md says nothing of ${version}`);
const [title = '', ...lines] = part.split('\n');
if (/unreleased/i.test(title)) throw new Error(`CHANGELOG.md calls ${version} unreleased: write its date`);
console.log(lines.join('\n').trim());
