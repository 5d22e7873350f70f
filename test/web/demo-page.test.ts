import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { AxeResults } from 'axe-core';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { BASELINE_WASM, launchChromium, NO_GPU } from '../support/browser.js';
import { FOR_PAGES, repoOf, startHubServer } from '../support/hub-server.js';
import { type PageServer, servePages } from '../support/page-server.js';
import { SHORT_LLAMA } from '../support/short-llama.js';

// The packed Chromium is built for Linux on x64.
const describeThere = process.platform === 'linux' && process.arch === 'x64' ? describe : describe.skip;

describeThere('the demo page', () => {
  let folder: string;
  let browser: Browser;
  let server: PageServer;
  let context: BrowserContext;
  let page: Page;
  const pageErrors: string[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'fang-prune-demo-'));
    // Outside the test runner's sandbox, which has its own global objects.
    await promisify(execFile)(process.execPath, [
      'node_modules/vite/bin/vite.js',
      'build',
      'examples/browser',
      '--outDir',
      folder,
    ]);
    // Two blocks of it suffice to test the page.
    for (const name of ['onnx/model.onnx', 'config.json'])
      await copyFile(join(SHORT_LLAMA, name), join(folder, 'tiny-llama', name));
    server = await servePages({ texts: new Map(), folders: [['/', folder]] });
    browser = await launchChromium([...NO_GPU, BASELINE_WASM]);
    context = await browser.newContext({ viewport: { width: 1280, height: 900 }, acceptDownloads: true });
    page = await context.newPage();
    page.setDefaultTimeout(100_000);
    page.on('pageerror', (error) => pageErrors.push(String(error)));
    page.on('console', (message) => message.type() === 'error' && pageErrors.push(message.text()));
    await page.goto(`${server.url}/index.html`);
  }, 300_000);
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    await rm(folder, { recursive: true, force: true });
  });

  /** @param rules All by default. */
  async function findViolations(rules: readonly string[] = []): Promise<string[]> {
    await page.evaluate(await readFile(createRequire(resolve('package.json')).resolve('axe-core/axe.min.js'), 'utf8'));
    const { violations } = await page.evaluate(
      (values) =>
        (globalThis as unknown as { axe: { run(options: object): Promise<AxeResults> } }).axe.run(
          values.length === 0 ? {} : { runOnly: { type: 'rule', values } },
        ),
      rules,
    );
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' | ')}`);
  }

  it('downloads a model by its name on the Hub', async () => {
    const nextPages = 'https://huggingface.co';
    const hub = await startHubServer({ 'me/tiny': { files: repoOf(SHORT_LLAMA) } }, { nextPages });
    await context.route(`${nextPages}/**`, (route) =>
      route.fulfill({
        status: 307,
        headers: { ...FOR_PAGES, location: route.request().url().replace(nextPages, hub.url) },
      }),
    );
    await page.getByLabel(/Hugging Face Hub/).fill('me/tiny');
    await page.getByRole('button', { name: 'Download' }).click();
    await page.getByText('tiny is ready.', { exact: true }).waitFor();
    await hub.close();
  }, 120_000);

  it('describes the bundled model', async () => {
    await page.getByRole('button', { name: /bundled/ }).click();
    await page.getByText('tiny-llama is ready.').waitFor();
    expect(await page.locator('#facts').textContent()).toMatch(/923K/);
    expect(await page.locator('#blocks .block').count()).toBe(2);
    expect(await page.locator('#size').textContent()).toMatch(/About \d[\d.]* MB of 3\.\d+ MB/);
  }, 120_000);

  it('needs a text to try several sizes', async () => {
    await page.getByRole('button', { name: 'Try several sizes' }).click();
    expect(await page.locator('#text:invalid').count()).toBe(1);
    expect(await page.locator('#running').isVisible()).toBe(false);
  });

  it('can be cancelled', async () => {
    // Enough windows that the run lasts until the click, also on a busy machine.
    await page.locator('#windows').fill('16');
    await page.getByRole('button', { name: 'Prune' }).click();
    await page.getByText(/Taking neurons/).waitFor();
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.getByText('Cancelled; nothing was written.').waitFor();
    await page.locator('#windows').fill('2');
    expect(await page.locator('#result').isVisible()).toBe(false);
  }, 120_000);

  it('prunes, shows the report, and returns a zip', async () => {
    await page.getByRole('button', { name: 'Prune' }).click();
    await page.getByText(/^Done in/).waitFor();
    expect(await page.locator('#outcome').textContent()).toMatch(/923K to [78]\d\dK[\s\S]*the written model computes/);
    await page.getByText('The report', { exact: true }).click();
    await page.frameLocator('#report-frame').getByText('Pruning report').waitFor();
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Download as zip' }).click(),
    ]);
    expect(download.suggestedFilename()).toBe('tiny-llama-smaller.zip');
    const zip = await readFile(await download.path());
    expect(zip.subarray(0, 4).toString('latin1')).toBe('PK\u0003\u0004');
    expect(zip.includes('tiny-llama-smaller/onnx/model.onnx')).toBe(true);
  }, 300_000);

  it('generates text with both models', async () => {
    await page.locator('#tokens').fill('3');
    await page.getByRole('button', { name: 'Write' }).click();
    const samples = page.locator('.sample:has(.prompt)');
    await samples.nth(1).waitFor();
    for (const text of await samples.allTextContents())
      expect(text.length).toBeGreaterThan('Once upon a time there was'.length);
    expect(pageErrors).toEqual([]);
  }, 120_000);

  it.each([
    { width: 380, colorScheme: 'light' },
    { width: 380, colorScheme: 'dark' },
    { width: 1280, colorScheme: 'light' },
    { width: 1280, colorScheme: 'dark' },
  ] as const)('fits the width and passes axe: %j', async ({ width, colorScheme }) => {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
    // Of all rules only contrast depends on the scheme.
    expect(await findViolations(colorScheme === 'dark' ? ['color-contrast'] : [])).toEqual([]);
    if (process.env.SCREENSHOTS)
      await page.screenshot({ path: `${process.env.SCREENSHOTS}/${width}-${colorScheme}.png`, fullPage: true });
  });
});
