import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { AxeResults } from 'axe-core';
import type { Browser, Page } from 'playwright-core';
import { buildPage } from '../../scripts/build-page.js';
import { formatReportPage } from '../../src/report/format-report-page.js';
import type { PruneReport, RungReport } from '../../src/report/report-schema.js';
import { launchChromium } from '../support/browser.js';
import { PRUNE_REPORT } from '../support/cli.js';
import { sampleReport } from '../support/sample-report.js';

/** A token that would run a script, or widen the page, if it were not escaped. */
const NASTY = `</script><script>pwned=1</script><img src=x onerror=pwned=1>&amp;"'\u2028\u202E${'y'.repeat(120)}`;

// The packed Chromium is built for Linux on x64.
const describeThere = process.platform === 'linux' && process.arch === 'x64' ? describe : describe.skip;

let assets: Awaited<ReturnType<typeof buildPage>>;
beforeAll(async () => {
  assets = await buildPage();
});

describe('the HTML of the page', () => {
  it('stays below 1 MB for thirty blocks of 1536 neurons', async () => {
    const html = await formatReportPage(sampleReport({ blockCount: 30, neuronCount: 1536 }), assets);
    expect(Buffer.byteLength(html)).toBeLessThan(1_000_000);
  });

  it('includes the licences of the bundled packages', () => {
    expect(assets.packages).toContain('@observablehq/plot');
    for (const name of assets.packages) expect(assets.script).toContain(`${name}: Copyright`);
    expect(assets.script).toContain('Permission to use, copy, modify, and/or distribute this software');
  });

  it('refers to nothing on the network', async () => {
    const html = await formatReportPage(sampleReport(), assets);
    expect(html.match(/(?:src|href)="(?!#)[^"]*"/g)).toBeNull();
    expect(assets.style).not.toMatch(/url\(|@import/);
  });
});

/** A dense model and rungs whose sparsities lie close together. */
function closeLadder(count: number): readonly RungReport[] {
  const sparsities = [0, ...Array.from({ length: count }, (_, at) => 0.25 + 0.01 * at)];
  return sparsities.map((requested) => ({
    requested,
    achieved: requested,
    parameters: 1e8 * (1 - requested),
    bytes: 4e8 * (1 - requested),
    perplexities: [
      { text: 'prose.txt', perplexity: 12.3 + 10 * requested },
      { text: 'code.txt', perplexity: 8 * (1 + requested) ** 4 },
    ],
  }));
}

describeThere('the page in a browser', () => {
  let folder: string;
  let browser: Browser;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'fang-prune-page-'));
    browser = await launchChromium();
  });
  afterAll(async () => {
    await browser.close();
    await rm(folder, { recursive: true });
  });

  interface View {
    readonly width: number;
    readonly colorScheme?: 'light' | 'dark';
  }

  /** Opens a report from disk, and records console messages, errors and requests. */
  async function open(report: PruneReport, { width, colorScheme = 'light' }: View) {
    const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme });
    const page = await context.newPage();
    const pageErrors: string[] = [];
    const requests: string[] = [];
    page.on('console', (message) => pageErrors.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => pageErrors.push(String(error)));
    page.on('request', (request) => requests.push(request.url()));
    const path = join(folder, 'report.html');
    await writeFile(path, await formatReportPage(report, assets));
    await page.goto(pathToFileURL(path).href);
    await page.locator('section').last().waitFor();
    await page.waitForFunction(
      () => document.querySelectorAll('.plot').length === document.querySelectorAll('.plot > svg').length,
    );
    return { page, pageErrors, requests, close: () => context.close() };
  }

  /** The sample report on a desktop and on a phone, for tests that change at most their own part of the page. */
  let wide: Awaited<ReturnType<typeof open>>;
  let narrow: Awaited<ReturnType<typeof open>>;
  beforeAll(async () => {
    wide = await open(sampleReport(), { width: 1280 });
    narrow = await open(sampleReport(), { width: 390 });
  });
  afterAll(async () => {
    await wide.close();
    await narrow.close();
  });

  const axeSource = readFile(createRequire(resolve('package.json')).resolve('axe-core/axe.min.js'), 'utf8');

  /** @param rules All by default. */
  async function findViolations(page: Page, rules: readonly string[] = []) {
    await page.evaluate(await axeSource);
    const { violations } = await page.evaluate(
      (values) =>
        (globalThis as unknown as { axe: { run(options: object): Promise<AxeResults> } }).axe.run(
          values.length === 0 ? {} : { runOnly: { type: 'rule', values } },
        ),
      rules,
    );
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' | ')}`);
  }

  /** Texts of plots that cover each other, leave the page, or are too small to read. */
  function findCrowdedTexts(page: Page): Promise<string[]> {
    return page.evaluate(() =>
      Array.from(document.querySelectorAll('.plot > svg')).flatMap((svg) => {
        const texts = Array.from(svg.querySelectorAll('text'), (text) => ({
          content: text.textContent ?? '',
          size: Number.parseFloat(getComputedStyle(text).fontSize),
          box: text.getBoundingClientRect(),
        })).filter(({ content, box }) => content !== '' && box.width > 0);
        const covered = texts.flatMap((one, at) =>
          texts
            .slice(0, at)
            .filter(
              (other) =>
                Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left) > 0.5 &&
                Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top) > 3,
            )
            .map((other) => `"${other.content}" and "${one.content}" cover each other`),
        );
        const outside = texts.filter(({ box }) => box.left < 0 || box.right > document.documentElement.clientWidth);
        const small = texts.filter(({ size }) => size < 11);
        return [
          ...covered,
          ...outside.map(({ content }) => `"${content}" leaves the page`),
          ...small.map(({ content, size }) => `"${content}" has ${size} px`),
        ];
      }),
    );
  }

  it.each<View>([
    { width: 390, colorScheme: 'light' },
    { width: 390, colorScheme: 'dark' },
    { width: 1280, colorScheme: 'light' },
    { width: 1280, colorScheme: 'dark' },
  ])('fits the width, passes axe, and has legible plots: %j', async (view) => {
    const { page, pageErrors, requests, close } = await open(
      { ...sampleReport({ token: NASTY, blockCount: 3, contextCount: 3 }), ladder: closeLadder(9) },
      view,
    );
    await page.evaluate(() => {
      for (const found of Array.from(document.querySelectorAll('details'))) found.open = true;
    });
    expect(pageErrors).toEqual([]);
    expect(requests).toHaveLength(1);
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(view.width);
    // Of all rules only contrast depends on the scheme.
    expect(await findViolations(page, view.colorScheme === 'dark' ? ['color-contrast'] : [])).toEqual([]);
    expect(await findCrowdedTexts(page)).toEqual([]);
    const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    expect(Number(background.match(/\d+/)![0]) > 128).toBe(view.colorScheme === 'light');
    await close();
  });

  it('shows markup in tokens as text', async () => {
    const { page, close } = await open(sampleReport({ token: NASTY }), { width: 1280 });
    expect(await page.evaluate(() => (globalThis as { pwned?: number }).pwned)).toBeUndefined();
    expect(await page.locator('img').count()).toBe(0);
    expect(await page.locator('.examples mark').first().textContent()).toBe(NASTY);
    await close();
  });

  it('runs no script but its own', async () => {
    const { page, pageErrors, close } = await open(sampleReport(), { width: 1280 });
    await page.evaluate(() => {
      const script = document.createElement('script');
      script.textContent = 'pwned = 1';
      document.body.append(script);
    });
    expect(await page.evaluate(() => (globalThis as { pwned?: number }).pwned)).toBeUndefined();
    expect(pageErrors.join()).toContain('Content Security Policy');
    await close();
  });

  it('shows every change on a phone without scrolling sideways', async () => {
    const { page } = narrow;
    const lifts = page.locator('#atlas .detail .scroller');
    expect(await lifts.evaluateAll((tables) => tables.map((table) => table.scrollWidth - table.clientWidth))).toEqual([
      0,
    ]);
    const cells = page.locator('#cost .stacks td:last-child');
    const count = await cells.count();
    expect(count).toBeGreaterThan(4);
    for (let at = 0; at < count; at++) {
      const { x, width } = (await cells.nth(at).boundingBox())!;
      expect(x + width).toBeLessThanOrEqual(390);
    }
  });

  it('labels the axes of every plot', async () => {
    const { page } = wide;
    const labels = await page.evaluate(() =>
      Array.from(document.querySelectorAll('.plot > svg')).map((svg) =>
        Array.from(svg.querySelectorAll('text'), ({ textContent }) => textContent ?? '').filter((text) =>
          /[a-z]{4}/i.test(text),
        ),
      ),
    );
    expect(labels.filter((texts) => texts.length < 1)).toEqual([]);
    expect(labels.flat()).toEqual(
      expect.arrayContaining([
        ...['FFN neurons', 'block change', 'error', 'context', 'stage', 'text'],
        ...[
          'predicted cost (% of all)',
          'divergence (nats per token)',
          'file size →',
          'nats lost per token →',
          'seconds →',
        ],
      ]),
    );
  });

  it('shows how calibration windows were generated', async () => {
    const report = sampleReport();
    const drawing = { seed: 0, startToken: 1, temperature: 1, documentLength: 128 };
    const generated = { windowCount: 32, share: 0.5, ...drawing, tokensSha256: 'ab' };
    const { page, close } = await open(
      { ...report, calibration: { ...report.calibration!, generated } },
      { width: 1280 },
    );
    const text = await page.locator('#how').textContent();
    expect(text).toContain('generated: window count32');
    expect(text).not.toContain('[object');
    await close();
  });

  it('has a table beneath every plot', async () => {
    const { page } = wide;
    const figures = page.locator('figure');
    const count = await figures.count();
    expect(count).toBeGreaterThanOrEqual(10);
    for (let at = 0; at < count; at++) {
      expect(await figures.nth(at).locator('.plot > svg[role=img][aria-label]').count()).toBe(1);
      expect(await figures.nth(at).locator('details table tbody tr').count()).toBeGreaterThan(0);
    }
  });

  it('shows top tokens of remaining and removed units', async () => {
    const { page } = wide;
    const status = page.locator('#top-tokens [role=status]');
    expect(await status.textContent()).toBe('Block 0, attention heads: 6 of 9 remain, with 93.0 % of its output.');
    await page.locator('#top-tokens .groups label').nth(1).click();
    expect(await page.locator('#top-tokens .detail h3').textContent()).toBe('Removed: tokens that activate it');
  });

  it('has an atlas that can be used by keyboard', async () => {
    const { page } = narrow;
    const status = page.locator('#atlas [role=status]');
    const heading = page.locator('#atlas .detail h3');
    expect(await status.textContent()).toMatch(/^Block 0: 7 contexts/);
    await page.locator('input[name=atlas-block]').first().focus();
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('ArrowRight');
    expect(await status.textContent()).toMatch(/^Block 2: 7 contexts/);
    expect(await page.locator('#atlas figcaption').textContent()).toMatch(/^Block 2:/);
    await page.keyboard.press('Tab');
    // The numbers behind the heat map come first, then the groups.
    expect(await page.evaluate(() => document.activeElement?.tagName)).toBe('SUMMARY');
    await page.keyboard.press('Tab');
    expect(await heading.textContent()).toBe('Group 1 and its context');
    await page.keyboard.press('ArrowDown');
    expect(await heading.textContent()).toBe('Group 2 and its context');
    await page.keyboard.press('ArrowUp');
    await page.keyboard.press('ArrowUp');
    expect(await heading.textContent()).toBe('Shared group');
    const outline = await page.evaluate(
      () => getComputedStyle(document.activeElement!.nextElementSibling!).outlineStyle,
    );
    expect(outline).toBe('solid');
  });

  it('shows the routing of contexts to experts, and which experts remain', async () => {
    const report = sampleReport();
    const [attention] = report.modules;
    const contexts = [
      { tokenCount: 40, tokens: [{ text: 'def', count: 9, lift: 4 }], examples: [] },
      { tokenCount: 60, tokens: [], examples: [] },
    ];
    const tokens = [
      [4, 30, 6, 0],
      [45, 0, 0, 15],
    ];
    const experts = { kind: 'experts', unitsBefore: 4, unitsAfter: 2, keep: [0, 1], contexts } as const;
    const { topTokens: _, ...rest } = attention!;
    const modules = [{ ...rest, ...experts, routing: { tokens, mutualInformation: 0.4012 } }];
    const { page, pageErrors, close } = await open({ ...report, modules }, { width: 1280 });
    expect(await page.locator('#atlas [role=status]').textContent()).toBe('Block 0: 2 contexts, 2 of 4 experts kept.');
    expect(await page.locator('#atlas figcaption').textContent()).toContain('contexts and routing: 0.40');
    const rows = page.locator('#atlas details tbody tr');
    // Sorted by the context that they serve most.
    expect(await rows.locator('th').allTextContents()).toEqual(['1', '2', '0', '3']);
    expect(await rows.first().locator('td').allTextContents()).toEqual(['yes', '75.0 %', '0.0 %']);
    const labels = page.locator('#atlas .groups .small');
    expect(await labels.allTextContents()).toEqual([
      '85.0 % of its tokens go to remaining experts',
      '75.0 % of its tokens go to remaining experts',
    ]);
    await page.locator('#atlas .groups label').nth(1).click();
    expect(await page.locator('#atlas .detail').textContent()).toContain(
      'Of these go 75.0 % to expert 0, 25.0 % to expert 3 (removed).',
    );
    expect(pageErrors).toEqual([]);
    expect(await findViolations(page)).toEqual([]);
    await close();
  });

  it('shows the ladder, and marks the rung of the report', async () => {
    const { page } = wide;
    const rows = page.locator('#ladder > .scroller tbody tr');
    expect(await rows.locator('th').allTextContents()).toEqual(['dense', '10 %', '30 % (this one)', '50 %']);
    const means = [Math.sqrt(12.3 * 8), Math.sqrt(13.3 * 32), Math.sqrt(15.3 * 72), Math.sqrt(17.3 * 128)];
    expect(await rows.locator('td:nth-child(3)').allTextContents()).toEqual(means.map((mean) => mean.toFixed(2)));
    expect(await page.locator('#ladder figure .plot > svg').textContent()).toContain('50 %');
    expect(await page.locator('#ladder details td').allTextContents()).toContain('128.0');
  });

  it('shows texts by their file names, or by paths if names are equal', async () => {
    const metric = { kind: 'perplexity', dense: 10, pruned: 12, better: 'lower' } as const;
    const named = (...names: string[]) => ({ ...PRUNE_REPORT, metrics: names.map((name) => ({ ...metric, name })) });
    for (const [report, names] of [
      [named('texts/a.txt', 'texts/b.txt'), ['perplexity, a.txt', 'perplexity, b.txt']],
      [named('one/a.txt', 'two/a.txt'), ['perplexity, one/a.txt', 'perplexity, two/a.txt']],
    ] as const) {
      const { page, close } = await open(report, { width: 1280 });
      expect((await page.locator('#cost > .scroller tbody th').allTextContents()).slice(2)).toEqual(names);
      await close();
    }
  });

  it('marks Pareto-optimal rungs', async () => {
    const report = sampleReport();
    const perplexities = (perplexity: number) => [{ text: 'prose.txt', perplexity }];
    const losses = [10, 30, 20, 40];
    const ladder = report.ladder!.map((rung, at) => ({ ...rung, perplexities: perplexities(losses[at]!) }));
    const { page, close } = await open({ ...report, ladder }, { width: 1280 });
    const marks = page.locator('#ladder > .scroller tbody td:nth-child(4)');
    expect(await marks.allTextContents()).toEqual(['yes', 'no', 'yes', 'yes']);
    await close();
  });

  it('shows a ladder without perplexities only as a table', async () => {
    const report = sampleReport();
    const ladder = report.ladder!.map(({ perplexities: _, ...rung }) => rung);
    const { page, pageErrors, close } = await open({ ...report, ladder }, { width: 390 });
    expect(await page.locator('#ladder tbody tr').count()).toBe(4);
    expect(await page.locator('#ladder figure').count()).toBe(0);
    expect(pageErrors).toEqual([]);
    await close();
  });

  it('shows the certificate, the mean perplexity and speeds at the top', async () => {
    const { page } = wide;
    expect(await page.locator('header #certificate').textContent()).toMatch(/^Checked: .* 128 tokens .* 3\.2e-7 of/);
    const tiles = await page.locator('header .tile').allTextContents();
    expect(tiles).toContain('Perplexity, mean of 2 texts9.92 → 45.03+354.0 %');
    expect(tiles).toContain('Prefill, tokens/s1000 → 1300+30.0 % (+28.1 to +31.9 %), better');
  });

  it('shows figures within noise in a sentence instead of tiles', async () => {
    const perplexity = { kind: 'perplexity', name: 'a.txt', dense: 10, pruned: 10.1, better: 'lower' } as const;
    const speed = {
      kind: 'speed',
      name: 'writing',
      unit: 'tokens/s',
      dense: 41.2,
      pruned: 42,
      better: 'higher',
    } as const;
    const metrics = [
      { ...perplexity, changeInterval: [-0.01, 0.03] as const },
      { ...speed, verdict: 'same' as const },
      { ...speed, name: 'reading', verdict: 'better' as const },
    ];
    const { page, close } = await open({ ...PRUNE_REPORT, metrics }, { width: 1280 });
    const tiles = await page.locator('header .tile dt').allTextContents();
    expect(tiles).toEqual(['Parameters', 'File size', 'Reading, tokens/s', 'Time taken']);
    expect(await page.locator('#noise').textContent()).toBe(
      'No more than noise: perplexity, a.txt 10.00 → 10.10; writing (tokens/s) 41.2 → 42.0.',
    );
    await close();
  });

  it('shows a figure with the same digits everywhere', async () => {
    const { page } = wide;
    const textOf = (selector: string) => page.locator(selector).allTextContents();
    const [dense, pruned] = ['12.30', '15.60'];
    expect((await textOf('#cost > .scroller tbody tr:nth-child(3) td')).slice(0, 2)).toEqual([dense, pruned]);
    expect((await textOf('#cost figure table tbody tr:first-child td')).slice(0, 2)).toEqual([dense, pruned]);
    expect(await textOf('#beside tbody tr:last-child td')).toEqual([pruned, '16.60']);
    expect(await textOf('#healing section > p, #healing > p')).toEqual([
      expect.stringContaining('from 0.4000 to 0.3000 nats per token'),
    ]);
    expect(await textOf('#healing table tbody tr:first-child td')).toEqual(['', '0.4000']);
    const changes = await textOf('#blocks figure:nth-of-type(3) table td');
    const perModule = await textOf('#blocks figure:nth-of-type(1) table tbody tr td:nth-child(5)');
    expect(perModule).toEqual(changes);
  });

  it('shows bytes and quality of each dtype', async () => {
    const rows = wide.page.locator('#cost table', { hasText: 'each dtype' }).locator('tbody tr');
    expect(await rows.locator('th').allTextContents()).toEqual(['q4', 'fp16', 'q4f16']);
    expect(await rows.first().locator('td').allTextContents()).toEqual([
      ...['80.0 MB', '−80.0 %', '15.20', expect.stringContaining('+23.6 %'), '0.2100', '78.0 %'],
    ]);
    expect(await rows.last().locator('td').allTextContents()).toEqual(
      expect.arrayContaining(['79.0 MB', 'not measured']),
    );
  });

  it('omits sections for values that were not measured', async () => {
    const { page, pageErrors, close } = await open(PRUNE_REPORT, { width: 390 });
    expect(pageErrors).toEqual([]);
    expect(await page.locator('#cost').textContent()).toContain('Quality was not measured');
    for (const id of ['atlas', 'bias', 'ladder', 'certificate']) expect(await page.locator(`#${id}`).count()).toBe(0);
    expect(await findViolations(page)).toEqual([]);
    await close();
  });

  it('draws plots again when the window is resized', async () => {
    const { page, close } = await open(sampleReport(), { width: 1280 });
    await page.setViewportSize({ width: 390, height: 700 });
    await page.waitForFunction(() =>
      Array.from(document.querySelectorAll('.plot > svg')).every((svg) => Number(svg.getAttribute('width')) < 390),
    );
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    await close();
  });
});
