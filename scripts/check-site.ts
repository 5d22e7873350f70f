/**
 * Checks the site that typedoc built: every link and anchor has a target, the menu contains every page, the search finds texts of
 * pages, and no page scrolls horizontally on a phone.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { inflateSync } from 'node:zlib';
import type { Page } from 'playwright-core';
import { launchChromium } from '../test/support/browser.js';
import { SOURCES } from './repository.js';

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
    if (target.startsWith(SOURCES) && !existsSync(target.slice(SOURCES.length).replace(/[?#].*/, '')))
      broken.push(`${page}: there is no ${target}`);
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

/** Words outside headings and names, and the expected page of a search for them. */
const SEARCHES = { telemetry: 'Reliability', Kronecker: 'Methods_and_calibration' } as const;

/** Width of a phone, in CSS pixels. */
const PHONE_WIDTH = 390;

/** Pages of the reference with the longest names: those are hardest to fit. */
const LONG_NAMES = 12;

async function checkInBrowser(): Promise<string[]> {
  const browser = await launchChromium();
  try {
    const page = await browser.newPage({ viewport: { width: PHONE_WIDTH, height: 800 } });
    const reference = pages.filter((name) => !documents.includes(name));
    const longest = [...reference].sort((one, other) => other.length - one.length).slice(0, LONG_NAMES);
    const wide: string[] = [];
    for (const name of ['index.html', ...documents, ...longest])
      if ((await widthOf(page, name)) > PHONE_WIDTH) wide.push(`${name} scrolls sideways at ${PHONE_WIDTH} px`);
    const unfound: string[] = [];
    for (const [word, title] of Object.entries(SEARCHES)) {
      const found = await search(page, word);
      if (!found.some((href) => href.endsWith(`/documents/${title}.html`)))
        unfound.push(`a search for ${word} finds ${found.length} pages, and not ${title}`);
    }
    return [...wide, ...unfound];
  } finally {
    await browser.close();
  }
}

const addressOf = (name: string): string => pathToFileURL(resolve(SITE, name)).href;

async function widthOf(page: Page, name: string): Promise<number> {
  await page.goto(addressOf(name));
  return page.evaluate(() => document.documentElement.scrollWidth);
}

/** Where the results of a search lead, as a reader makes it. */
async function search(page: Page, word: string): Promise<string[]> {
  await page.goto(addressOf('index.html'));
  await page.locator('#tsd-search-trigger').click();
  await page.locator('#tsd-search-input').pressSequentially(word);
  const results = page.locator('#tsd-search-results a');
  // Without a result there is nothing to wait for.
  await results
    .first()
    .waitFor({ timeout: 10_000 })
    .catch(() => undefined);
  return results.evaluateAll((links) => links.map((link) => (link as HTMLAnchorElement).href));
}

// The packed Chromium is built for Linux on x64.
const seen = process.platform === 'linux' && process.arch === 'x64' ? await checkInBrowser() : [];

const sources = readdirSync('docs', { recursive: true, encoding: 'utf8' }).filter(
  (name) => name.endsWith('.md') && !name.startsWith(relative('docs', SITE)),
);
// The changelog is a page too.
const missing = sources.length + 1 - documents.length;

const faults = [
  ...broken,
  ...seen,
  ...hidden.map((name) => `${name}: the menu does not lead there`),
  ...(missing === 0 ? [] : [`${sources.length + 1} pages were written, and ${documents.length} built`]),
];
for (const fault of faults) process.stderr.write(`${fault}\n`);
process.stdout.write(`${pages.length} pages, ${documents.length} of them documents, ${reached.size} in the menu\n`);
process.exitCode = faults.length === 0 ? 0 : 1;
