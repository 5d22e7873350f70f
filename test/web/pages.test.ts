import { resolve } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { createNodeEngine, generateText, prune } from '../../src/node.js';
import type * as web from '../../src/web.js';
import { BASELINE_WASM, launchChromium, SOFTWARE_WEBGPU, watchMainThread } from '../support/browser.js';
import { repoOf, startHubServer } from '../support/hub-server.js';
import { bundleForPages, type PageServer, servePages } from '../support/page-server.js';
import { SHORT_LLAMA } from '../support/short-llama.js';

// The packed Chromium is built for Linux on x64.
const describeThere = process.platform === 'linux' && process.arch === 'x64' ? describe : describe.skip;

/** Globals of the page below. */
declare const fang: typeof web;
declare const denseFiles: () => Promise<Map<string, Uint8Array>>;
declare const listOpfs: () => Promise<string[]>;
/** ONNX Runtime, on the page's own thread. */
declare const ownEngine: () => Promise<web.Engine>;

const HTML = `<!doctype html><title>pages</title><script type="module">
  import * as fang from '/web.js';
  import { createOrtEngine } from '/core.js';
  const names = ['config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json', 'onnx/model.onnx'];
  const denseFiles = async () => {
    const bytes = await Promise.all(names.map(async (name) => (await fetch('/model/' + name)).arrayBuffer()));
    return new Map(names.map((name, at) => [name, new Uint8Array(bytes[at])]));
  };
  const listOpfs = async () => {
    const walk = async (folder, path) => {
      const found = [];
      for await (const [name, handle] of folder.entries())
        found.push(...(handle.kind === 'file' ? [path + name] : await walk(handle, path + name + '/')));
      return found;
    };
    return (await walk(await navigator.storage.getDirectory(), '')).sort();
  };
  const ownEngine = async () => createOrtEngine(await import('/ort.bundle.min.mjs'), { executionProviders: ['wasm'] });
  // A helper of esbuild, which functions sent to the page as text call to keep their names.
  const __name = (named) => named;
  Object.assign(globalThis, { fang, denseFiles, listOpfs, ownEngine, __name, isReady: true });
</script>`;

const RUN = { sparsity: 0.3, method: 'flap', calibration: { windowCount: 2, windowLength: 24 } } as const;

describeThere('a page', () => {
  let browser: Browser;
  let server: PageServer;
  let page: Page;
  const pageErrors: string[] = [];

  beforeAll(async () => {
    const bundle = await bundleForPages();
    server = await servePages({
      texts: new Map([...bundle.texts, ['/', HTML]]),
      folders: [['/model/', resolve(SHORT_LLAMA)], ...bundle.folders],
    });
    browser = await launchChromium([...SOFTWARE_WEBGPU, BASELINE_WASM]);
    page = await (await browser.newContext()).newPage();
    page.on('pageerror', (error) => pageErrors.push(String(error)));
    await page.goto(server.url);
    await page.waitForFunction('globalThis.isReady');
  }, 300_000);
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  it('prunes within its private file system as Node.js does, and stays responsive', async () => {
    const engine = await createNodeEngine({ executionProvider: 'wasm' });
    const expected = await prune({ ...RUN, engine, model: SHORT_LLAMA, dryRun: true });
    const longestTask = await watchMainThread(browser, page);
    const found = await page.evaluate(async (run) => {
      const dense = await (await navigator.storage.getDirectory()).getDirectoryHandle('dense', { create: true });
      for (const [path, bytes] of await denseFiles()) {
        const [name, inside] = path.split('/').reverse() as [string, string?];
        const parent = inside === undefined ? dense : await dense.getDirectoryHandle(inside, { create: true });
        const writable = await (await parent.getFileHandle(name, { create: true })).createWritable();
        await writable.write(bytes as Uint8Array<ArrayBuffer>);
        await writable.close();
      }
      const stages = new Set<string>();
      const onProgress = ({ stage }: web.Progress) => void stages.add(stage);
      const report = await fang.prune({ ...run, model: 'dense', out: 'smaller', onProgress });
      return { report, stages: [...stages], files: await listOpfs() };
    }, RUN);
    expect(found.report.modules.map(({ keep }) => keep)).toEqual(expected.modules.map(({ keep }) => keep));
    expect(found.report.certificate).toMatchObject({ passed: true, opened: true });
    expect(found.stages).toEqual(expect.arrayContaining(['load', 'calibrate', 'prune', 'certify']));
    expect(found.files.filter((path) => !path.startsWith('dense/'))).toEqual(
      [
        ...['config.json', 'fang-prune-files.json', 'fang-prune-report.html', 'fang-prune-report.json'],
        ...['generation_config.json', 'onnx/model.onnx', 'tokenizer.json', 'tokenizer_config.json'],
      ].map((path) => `smaller/${path}`),
    );
    expect(pageErrors).toEqual([]);
    // Copying the model into the private file system, above, is part of it.
    expect(await longestTask()).toBeLessThan(100);
  }, 300_000);

  it('removes the same units on WebGPU', async () => {
    const request = { ...RUN, modules: 'ffn', certify: false, evaluation: false, report: false } as const;
    const engine = await createNodeEngine({ executionProvider: 'wasm' });
    const expected = await prune({ ...request, engine, model: SHORT_LLAMA, dryRun: true });
    const { modules, environment } = await page.evaluate(
      (request) => fang.prune({ ...request, model: 'dense', out: new Map(), executionProvider: 'webgpu' }),
      request,
    );
    expect(environment?.executionProvider).toBe('webgpu');
    expect(modules.map(({ keep }) => keep)).toEqual(expected.modules.map(({ keep }) => keep));
  }, 300_000);

  it('runs the pruned model in a worker and in the page, and describes it', async () => {
    const found = await page.evaluate(async () => {
      const smaller = await (await navigator.storage.getDirectory()).getDirectoryHandle('smaller');
      const request = { model: smaller, prompt: 'Once upon', newTokens: 4 };
      const text = new File(['It was a dark and stormy night. '.repeat(8)], 'night.txt');
      return {
        samples: [await fang.generateText(request), await fang.generateText({ ...request, engine: await ownEngine() })],
        described: await fang.describe({ model: smaller }),
        perplexity: await fang.perplexity({ model: 'smaller', text, windowLength: 32 }),
      };
    });
    expect(found.samples[0]!.text.length).toBeGreaterThan(0);
    expect(found.samples[0]!.text).toBe(found.samples[1]!.text);
    expect(found.described.blocks.flatMap(({ modules }) => modules.map(({ width }) => width))).toContain(179);
    expect(found.perplexity.perplexity).toBeGreaterThan(1);
  }, 300_000);

  it('writes statistics, recipe and rungs into maps, and gives the same model from them', async () => {
    const found = await page.evaluate(async ({ sparsity, ...measuring }) => {
      const [model, statistics, recipe, rungs] = [await denseFiles(), new Map(), new Map(), new Map()];
      const [again, fp16, healed] = [new Map(), new Map(), new Map()];
      const quiet = { certify: false, evaluation: false, report: false };
      await fang.observe({ ...measuring, model, out: statistics });
      const reports = await fang.pruneLadder({
        ...quiet,
        method: measuring.method,
        model,
        statistics,
        recipe,
        out: rungs,
        sparsity: [0.1, sparsity],
      });
      const given = new Map(
        [...recipe].flatMap(([path, bytes]) => (path.startsWith('30/') ? [[path.slice(3), bytes]] : [])),
      );
      await fang.applyRecipe({ model, recipe: given as typeof recipe, out: again });
      await fang.quantize({ ...quiet, model, out: fp16, dtype: 'fp16' });
      const heal = { windowCount: 4, windowsPerStep: 2, passCount: 1 };
      await fang.heal({
        dense: model,
        pruned: again,
        out: healed,
        certify: false,
        heal,
        calibration: { windowLength: 16 },
      });
      const [one, other]: Uint8Array[] = [again.get('onnx/model.onnx'), rungs.get('30/onnx/model.onnx')];
      return {
        maps: [statistics, recipe, rungs, again, fp16, healed].map((map) => [...map.keys()].sort()),
        same: one!.length === other!.length && one!.every((byte, at) => byte === other![at]),
        rungCount: reports.length,
      };
    }, RUN);
    const [statistics, recipe, rungs, again, fp16, healed] = found.maps;
    expect(statistics).toEqual(['statistics.json', 'statistics.safetensors']);
    expect(recipe).toEqual(['10', '30'].flatMap((rung) => [`${rung}/recipe.json`, `${rung}/recipe.safetensors`]));
    expect(rungs).toEqual(expect.arrayContaining(['10/onnx/model.onnx', '30/onnx/model.onnx']));
    expect(again).toContain('onnx/model.onnx');
    expect(fp16).toContain('onnx/model_fp16.onnx');
    expect(healed).toContain('fang-prune-healing.json');
    expect([found.same, found.rungCount]).toEqual([true, 2]);
  }, 300_000);

  it('uses the given runtime, and explains why a worker does not start', async () => {
    const found = await page.evaluate(async () => {
      const runtime = {
        url: `${location.origin}/ort.bundle.min.mjs`,
        numThreads: 1,
        wasmPaths: `${location.origin}/nowhere/`,
      };
      const outcomeOf = (call: Promise<unknown>) => call.catch((error) => `${error.code}: ${error.message}`);
      const start = () => new Worker('/nothing.js', { type: 'module' });
      const wrong = fang.createPruneWorker({ runtime });
      const right = fang.createPruneWorker({ runtime: { ...runtime, wasmPaths: undefined } });
      const outcomes = [
        await outcomeOf(fang.createPruneWorker({ start }).describe({ model: 'dense' })),
        await outcomeOf(wrong.describe({ model: 'dense' })),
        await outcomeOf(right.describe({ model: 'dense' }).then(({ model }) => model)),
      ];
      for (const started of [wrong, right]) started.terminate();
      return outcomes;
    });
    expect(found).toEqual([
      expect.stringMatching(/^ERR_ENGINE: the worker failed to start\. Give createPruneWorker/),
      expect.stringMatching(/^ERR_ENGINE: .*nowhere/),
      'dense',
    ]);
  }, 300_000);

  it('throws errors of the same classes, and writes no files', async () => {
    const found = await page.evaluate(async (run) => {
      const out = new Map();
      const model = await denseFiles();
      const outcomeOf = (call: Promise<unknown>) =>
        call.then(
          () => 'nothing',
          (error) => [
            error instanceof fang.OptionError,
            error instanceof fang.ModelFormatError,
            error.option,
            error.message,
          ],
        );
      const broken = new Map([...model, ['onnx/model.onnx', model.get('onnx/model.onnx')!.slice(0, 1000)]]);
      return [
        await outcomeOf(fang.prune({ ...run, model, out, sparsity: 2 })),
        await outcomeOf(fang.prune({ ...run, model: broken, out })),
        await outcomeOf(fang.createPruneWorker().prune({ ...run, model, out, method: (() => 1) as never })),
        await outcomeOf(fang.prune({ ...run, model: 'nowhere', out })),
        out.size,
      ];
    }, RUN);
    expect(found).toEqual([
      [true, false, 'sparsity', expect.stringContaining('sparsity is 2')],
      [false, true, undefined, expect.stringContaining('/model/onnx/model.onnx is damaged')],
      [true, false, undefined, expect.stringContaining('so it may contain only plain data')],
      [true, false, undefined, expect.stringContaining('There is no model at /opfs/nowhere')],
      0,
    ]);
  }, 300_000);

  it.each(['a worker', 'the page, its graphs in a worker', 'the page itself'] as const)(
    'stops in %s, and leaves no files',
    async (where) => {
      const { waited, starved, ...found } = await page.evaluate(
        async ([where, run]) => {
          const before = await listOpfs();
          const abortion = new AbortController();
          let abortedAt = 0;
          const onProgress = ({ stage }: web.Progress) => {
            if (stage !== 'prune' || abortedAt > 0) return;
            // From a timer, since a click has to wait for its turn too.
            abortedAt = Number.POSITIVE_INFINITY;
            setTimeout(() => {
              abortedAt = performance.now();
              abortion.abort(new Error('enough'));
            });
          };
          // Time in which the page, though idle, got no processor from a busy machine.
          let [starved, last] = [0, 0];
          const clock = setInterval(() => {
            const now = performance.now();
            if (abortedAt > 0) starved += Math.max(0, now - Math.max(last, abortedAt) - 20);
            last = now;
          });
          const { calibrate } = fang.STAGES;
          const own = {
            'a worker': {},
            'the page, its graphs in a worker': { stages: { calibrate } },
            'the page itself': { engine: await ownEngine() },
          }[where];
          const places = { model: 'dense', out: 'stopped' } as const;
          const request = { ...run, ...places, ...own, signal: abortion.signal, onProgress };
          const said = await fang.prune(request).catch((error) => String(error));
          const waited = performance.now() - abortedAt;
          clearInterval(clock);
          const results = (await listOpfs()).filter((path) => !path.startsWith('.fang-prune-scratch/'));
          // A worker's scratch file cannot be removed until the browser has ended the worker.
          while ((await listOpfs()).some((path) => path.startsWith('.')))
            await new Promise((resolve) => setTimeout(resolve, 20));
          return { said, waited, starved, isSame: results.join() === before.join() };
        },
        [where, RUN] as const,
      );
      expect(found).toEqual({ said: 'Error: enough', isSame: true });
      // On the page's own thread, the current call of the engine ends first.
      expect(where === 'the page itself' ? waited / 10 : waited - starved).toBeLessThan(500);
    },
    300_000,
  );

  it('resumes an aborted run, and then removes its checkpoints', async () => {
    const found = await page.evaluate(async (run) => {
      const countCheckpoints = () =>
        new Promise<number>((resolve, reject) => {
          const opened = indexedDB.open('fang-prune');
          opened.onerror = () => reject(opened.error);
          opened.onsuccess = () => {
            const counted = opened.result.transaction('runs').objectStore('runs').count();
            counted.onsuccess = () => resolve(counted.result);
          };
        });
      const abortion = new AbortController();
      const onProgress = ({ stage }: web.Progress) => stage === 'save' && abortion.abort(new Error('enough'));
      const quiet = { certify: false, evaluation: false };
      const request = { ...run, ...quiet, model: 'dense', out: 'stopped' } as const;
      const said = await fang.prune({ ...request, onProgress, signal: abortion.signal }).catch((error) => `${error}`);
      const kept = await countCheckpoints();
      const { remarks } = await fang.prune(request);
      const left = await countCheckpoints();
      await (await navigator.storage.getDirectory()).removeEntry('stopped', { recursive: true });
      return { said, kept, left, remarks: remarks.join() };
    }, RUN);
    expect(found).toMatchObject({ said: 'Error: enough', left: 0 });
    expect(found.kept).toBeGreaterThan(0);
    expect(
      found.remarks.includes('resumed from checkpoints of an interrupted run in the journal of /opfs/stopped'),
    ).toBe(found.kept > 1);
  }, 300_000);

  it('removes temporary files of a page that was closed', async () => {
    const closed = await page.context().newPage();
    await closed.goto(server.url);
    await closed.waitForFunction('globalThis.isReady');
    await closed.evaluate(async (run) => {
      await new Promise<void>((resolve) => {
        const onProgress = ({ stage }: web.Progress) => stage === 'certify' && resolve();
        void fang.prune({ ...run, model: 'dense', out: 'ended', onProgress });
      });
    }, RUN);
    await closed.close();
    const found = await page.evaluate(async (run) => {
      const unfinished = async () => (await listOpfs()).filter((path) => path.startsWith('.'));
      const left = await unfinished();
      const quick = { method: 'magnitude', calibration: {}, certify: false, evaluation: false };
      await fang.prune({ ...run, ...quick, model: 'dense', out: 'quick' });
      return { isLeft: left.length > 0, leftThen: await unfinished() };
    }, RUN);
    expect(found).toEqual({ isLeft: true, leftThen: [] });
  }, 300_000);

  it('opens a model of the Hub, and resumes its aborted download', async () => {
    const hub = await startHubServer(
      { 'me/tiny': { files: repoOf(SHORT_LLAMA) } },
      // The connection is held, so that the page ends it and not the server, however slow the page is.
      { cuts: { 'onnx/model.onnx': { after: 1_200_000, times: 1, isHeld: true } } },
    );
    const found = await page.evaluate(async (endpoint) => {
      const { describe, generateText } = fang.createPruneWorker({ hub: { endpoint } });
      const abortion = new AbortController();
      const onProgress = ({ stage, done, detail = '' }: web.Progress) => {
        if (stage === 'download' && detail.startsWith('onnx/') && done > 1e6) abortion.abort(new Error('enough'));
      };
      const stopping = describe({ model: 'me/tiny', signal: abortion.signal, onProgress });
      const said = await stopping.catch((error) => String(error));
      const { text } = await generateText({ model: 'me/tiny', prompt: 'Once upon', newTokens: 4 });
      return { said, text };
    }, hub.url);
    await hub.close();
    const { text } = await generateText({ model: SHORT_LLAMA, prompt: 'Once upon', newTokens: 4 });
    expect(found).toEqual({ said: 'Error: enough', text });
    const ranges = hub.requests.flatMap(({ line, range }) => (line.includes('/cdn/') ? (range ?? []) : []));
    const [start = 0, ...others] = ranges.map((range) => Number(/^bytes=(\d+)-$/.exec(range)?.[1]));
    expect(start).toBeGreaterThan(1e6);
    expect(others).toEqual([]);
  }, 300_000);
});
