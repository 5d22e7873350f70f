/**
 * Prunes a model in Chromium, in the private file system. Prints memory, the main thread's longest task, the time of an abort,
 * and whether the removed units equal those in Node.js on onnxruntime-web.
 *
 *   npm run browser -- MODEL [--method flap] [--windows 4] [--length 128] [--sparsity 0.3] [--provider wasm]
 *     [--aborts 3 | --abort-at SECONDS,...] [--compare]
 *
 * With --abort-at all runs are aborted.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Page } from 'playwright-core';
import { createNodeEngine, prune } from '../src/node.js';
import type * as web from '../src/web.js';
import { launchWithProfile, SOFTWARE_WEBGPU, watchMainThread } from '../test/support/browser.js';
import { bundleForPages, servePages } from '../test/support/page-server.js';
import { readArguments, refuse } from './read-arguments.js';

const USAGE =
  'npm run browser -- MODEL [--method NAME] [--windows N] [--provider NAME] [--aborts N | --abort-at SECONDS,...] [--compare]';
const { values, positionals } = readArguments(USAGE, {
  method: { type: 'string', default: 'flap' },
  windows: { type: 'string', default: '4' },
  length: { type: 'string', default: '128' },
  sparsity: { type: 'string', default: '0.3' },
  provider: { type: 'string', default: 'wasm' },
  aborts: { type: 'string', default: '3' },
  'abort-at': { type: 'string' },
  compare: { type: 'boolean', default: false },
});
const [model] = positionals;
if (model === undefined) refuse(USAGE, 'Which model?');

const request = {
  method: values.method,
  sparsity: Number(values.sparsity),
  calibration: { windowCount: Number(values.windows), windowLength: Number(values.length) },
};

/** What the page below has as globals. */
declare const fang: typeof web;
declare const copyModel: (paths: readonly string[]) => Promise<void>;
declare const runOnce: (request: object, abortAt?: number) => Promise<RunResult>;

interface RunResult {
  readonly ms: number;
  readonly longestBlockMs: number;
  readonly keep?: readonly (readonly number[])[];
  readonly timings?: web.PruneReport['timings'];
  readonly abortMs?: number;
  readonly stage?: string;
  readonly left: readonly string[];
}

// As text, since functions transformed by a bundler do not run in a page.
const HTML = `<!doctype html><title>fang-prune</title><script type="module">
  import * as fang from '/web.js';
  const home = await navigator.storage.getDirectory();
  const copyModel = async (paths) => {
    for (const path of paths) {
      const names = ['dense', ...path.split('/')];
      let folder = home;
      for (const name of names.slice(0, -1)) folder = await folder.getDirectoryHandle(name, { create: true });
      const file = await folder.getFileHandle(names.at(-1), { create: true });
      await (await fetch('/model/' + path)).body.pipeTo(await file.createWritable());
    }
  };
  const list = async () => {
    const names = [];
    for await (const name of home.keys()) names.push(name);
    return names.filter((name) => name !== '.fang-prune-scratch').sort();
  };
  const runOnce = async (request, abortAt) => {
    const [abortion, began] = [new AbortController(), performance.now()];
    let [isRunning, last, longestBlockMs, abortedAt, stage] = [true, began, 0, 0, ''];
    const tick = () => {
      const now = performance.now();
      longestBlockMs = Math.max(longestBlockMs, now - last);
      last = now;
      if (isRunning) setTimeout(tick);
    };
    tick();
    if (abortAt !== undefined)
      setTimeout(() => {
        abortedAt = performance.now();
        abortion.abort(new Error('enough'));
      }, abortAt);
    const onProgress = (progress) => {
      if (!stage.startsWith(progress.stage + ' ')) console.debug(progress.stage);
      stage = progress.stage + ' ' + (progress.detail ?? '');
    };
    const full = { ...request, model: 'dense', out: 'smaller', force: true, onProgress, signal: abortion.signal };
    try {
      const report = await fang.prune(full);
      const { modules, timings } = report;
      return { ms: performance.now() - began, longestBlockMs, timings, keep: modules.map(({ keep }) => keep), left: await list() };
    } catch (error) {
      if (error.message !== 'enough') throw error;
      return { ms: performance.now() - began, longestBlockMs, stage, abortMs: performance.now() - abortedAt, left: await list() };
    } finally {
      isRunning = false;
    }
  };
  Object.assign(globalThis, { copyModel, runOnce, isReady: true });
</script>`;

const root = resolve(model);
const bundle = await bundleForPages();
const server = await servePages({
  texts: new Map([...bundle.texts, ['/', HTML]]),
  folders: [['/model/', root], ...bundle.folders],
});
const profile = await mkdtemp(join(tmpdir(), 'fang-prune-profile-'));
const context = await launchWithProfile(profile, values.provider === 'webgpu' ? SOFTWARE_WEBGPU : undefined);
try {
  const page = await context.newPage();
  page.setDefaultTimeout(0);
  await page.goto(server.url);
  await page.waitForFunction('globalThis.isReady');
  const entries = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = entries.map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
  await page.evaluate((paths) => copyModel(paths), paths);
  await measure(page);
} finally {
  await context.close();
  await server.close();
  await rm(profile, { recursive: true, force: true });
}

async function measure(page: Page): Promise<void> {
  const memory = watchRenderers();
  page.on('console', (message) => {
    process.stderr.write(`${message.text()}, ${(memory.peakBytes() / 1e6).toFixed(0)} MB so far\n`);
  });
  const asked = { ...request, executionProvider: values.provider };
  const run = (abortAt?: number) =>
    page.evaluate(([request, abortAt]) => runOnce(request, abortAt), [asked, abortAt] as const);
  const print = (found: object) => process.stdout.write(`${JSON.stringify(found)}\n`);
  const longestTask = await watchMainThread(context.browser()!, page);
  const whole = values['abort-at'] === undefined ? await run() : undefined;
  if (whole !== undefined) {
    const { keep: _, ...shown } = whole;
    print({ ...shown, longestTaskMs: await longestTask(), rendererPeakBytes: memory.peakBytes() });
  }
  const parts = Number(values.aborts) + 1;
  const evenly = Array.from({ length: parts - 1 }, (_, at) => ((whole?.ms ?? 0) * (at + 1)) / parts);
  for (const at of values['abort-at']?.split(',').map((seconds) => Number(seconds) * 1000) ?? evenly) {
    const { keep: _, ...aborted } = await run(at);
    print(aborted);
  }
  if (whole === undefined) print({ longestTaskMs: await longestTask(), rendererPeakBytes: memory.peakBytes() });
  memory.stop();
  if (values.compare && whole !== undefined) {
    const engine = await createNodeEngine({ executionProvider: 'wasm' });
    const { modules } = await prune({ ...request, model: root, dryRun: true, engine });
    const differ = modules.filter((module, at) => String(module.keep) !== String(whole.keep![at]));
    print({ modules: modules.length, thatDifferFromNode: differ.length });
  }
}

/** Watches the memory of Chromium's page processes, without mapped files. */
function watchRenderers(): { peakBytes(): number; stop(): void } {
  let peak = 0;
  const look = () => {
    const sum = descendants(process.pid)
      .filter((pid) => /--type=renderer/.test(read(`/proc/${pid}/cmdline`)))
      .map(heldBytes);
    peak = Math.max(peak, ...sum);
  };
  const timer = setInterval(look, 200);
  return { peakBytes: () => peak, stop: () => clearInterval(timer) };
}

function descendants(pid: number): number[] {
  const children = read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number);
  return children.flatMap((child) => [child, ...descendants(child)]);
}

function heldBytes(pid: number): number {
  const status = read(`/proc/${pid}/status`);
  const kibibytes = ['RssAnon', 'RssShmem'].map((name) =>
    Number(new RegExp(`${name}:\\s*(\\d+)`).exec(status)?.[1] ?? 0),
  );
  return 1024 * kibibytes.reduce((sum, each) => sum + each, 0);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
