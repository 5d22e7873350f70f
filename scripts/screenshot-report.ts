/**
 * Draws pictures of a report's page for the documentation, all views or those named:
 * `npx tsx scripts/screenshot-report.ts REPORT.html FOLDER [VIEW...]`
 */
import { mkdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser } from 'playwright-core';
import { launchChromium } from '../test/support/browser.js';

interface Shot {
  readonly view: string;
  readonly width: number;
  readonly height: number;
  readonly colorScheme: 'light' | 'dark';
  /** Section to begin at, by its id; the page's top when absent. A report without it gets no such picture. */
  readonly section?: string;
}

const LAPTOP = { width: 1100, height: 960 };
const PHONE = { width: 380, height: 960 };

const SHOTS: readonly Shot[] = [
  { view: 'laptop-light', ...LAPTOP, colorScheme: 'light' },
  { view: 'laptop-dark', ...LAPTOP, colorScheme: 'dark' },
  { view: 'phone', ...PHONE, colorScheme: 'light' },
  { view: 'ladder-light', ...LAPTOP, height: 740, colorScheme: 'light', section: 'ladder' },
  { view: 'ladder-dark', ...LAPTOP, height: 740, colorScheme: 'dark', section: 'ladder' },
  { view: 'ladder-phone', ...PHONE, colorScheme: 'light', section: 'ladder' },
  { view: 'atlas-dark', ...LAPTOP, height: 1100, colorScheme: 'dark', section: 'atlas' },
];

/** Pictures beyond this make a checkout heavy. */
const MAX_BYTES = 250_000;

const [report, folder, ...views] = process.argv.slice(2);
const stray = views.find((name) => SHOTS.every(({ view }) => view !== name));
if (report === undefined || folder === undefined || stray !== undefined) {
  const known = SHOTS.map(({ view }) => view).join(', ');
  process.stderr.write(`usage: npx tsx scripts/screenshot-report.ts REPORT.html FOLDER [VIEW...]; views: ${known}\n`);
  process.exit(2);
}
await mkdir(folder, { recursive: true });
const browser = await launchChromium();
try {
  for (const shot of SHOTS) {
    if (views.length === 0 || views.includes(shot.view))
      await take(browser, shot, join(folder, `report-${shot.view}.png`));
  }
} finally {
  await browser.close();
}

async function take(browser: Browser, { colorScheme, section, ...viewport }: Shot, path: string): Promise<void> {
  const page = await browser.newPage({ viewport, colorScheme, reducedMotion: 'reduce' });
  try {
    await page.goto(pathToFileURL(resolve(report!)).href);
    await page.waitForFunction(
      () => document.querySelectorAll('.plot').length === document.querySelectorAll('.plot > svg').length,
    );
    if (section !== undefined) {
      const found = page.locator(`#${section}`);
      if ((await found.count()) === 0) return;
      await found.evaluate((element) => element.scrollIntoView());
    }
    await page.screenshot({ path, animations: 'disabled' });
  } finally {
    await page.close();
  }
  const { size } = await stat(path);
  process.stdout.write(`${path}: ${Math.ceil(size / 1000)} kB\n`);
  if (size > MAX_BYTES) throw new Error(`${path} has ${size} bytes; more than ${MAX_BYTES} is too much`);
}
