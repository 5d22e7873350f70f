/** Checks the site that typedoc built: every link and anchor leads somewhere, and the menu leads to every page. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { inflateSync } from 'node:zlib';

const SITE = 'docs/api';

const pages = readdirSync(SITE, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.html'));
const htmlOf = new Map(pages.map((name) => [name, readFileSync(join(SITE, name), 'utf8')]));
const anchorsOf = new Map(
  [...htmlOf].map(([name, html]) => [
    name,
    new Set([...html.matchAll(/\s(?:id|name)="([^"]*)"/g)].map(([, id]) => id)),
  ]),
);

const broken: string[] = [];
for (const [page, html] of htmlOf)
  for (const [, target = ''] of html.matchAll(/\s(?:href|src)="([^"]*)"/g)) {
    if (/^(?:[a-z]+:|\/\/)/i.test(target) || target === '#') continue;
    const [path = '', anchor = ''] = decodeURI(target).split('#');
    const file = path === '' ? page : normalize(join(dirname(page), path));
    if (!existsSync(join(SITE, file))) broken.push(`${page}: there is no ${target}`);
    else if (anchor !== '' && file.endsWith('.html') && !anchorsOf.get(file)?.has(anchor))
      broken.push(`${page}: ${file} has no anchor #${anchor}`);
  }

interface MenuEntry {
  readonly path?: string;
  readonly children?: readonly MenuEntry[];
}

/** The menu's data are compressed, for the page's script to draw. */
function readMenu(): readonly MenuEntry[] {
  const [, packed = ''] = /"([^"]+)"/.exec(readFileSync(join(SITE, 'assets/navigation.js'), 'utf8')) ?? [];
  return JSON.parse(inflateSync(Buffer.from(packed, 'base64')).toString('utf8')) as MenuEntry[];
}

const reached = new Set<string>();
const visit = ({ path, children = [] }: MenuEntry): void => {
  if (path !== undefined) reached.add(path.split('#')[0]!);
  children.forEach(visit);
};
readMenu().forEach(visit);
const documents = pages.filter((name) => name.startsWith('documents/'));
const hidden = documents.filter((name) => !reached.has(name));

const sources = readdirSync('docs', { recursive: true, encoding: 'utf8' }).filter(
  (name) => name.endsWith('.md') && !name.startsWith(relative('docs', SITE)),
);
// The changelog is a page too.
const missing = sources.length + 1 - documents.length;

const faults = [
  ...broken,
  ...hidden.map((name) => `${name}: the menu does not lead there`),
  ...(missing === 0 ? [] : [`${sources.length + 1} pages were written, and ${documents.length} built`]),
];
for (const fault of faults) process.stderr.write(`${fault}\n`);
process.stdout.write(`${pages.length} pages, ${documents.length} of them documents, ${reached.size} in the menu\n`);
process.exitCode = faults.length === 0 ? 0 : 1;
