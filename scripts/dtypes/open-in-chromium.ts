import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { build } from 'esbuild';
import type { Browser, Page } from 'playwright-core';
import { BASELINE_WASM, launchChromium, SOFTWARE_WEBGPU } from '../../test/support/browser.js';
import { servePages } from '../../test/support/page-server.js';
import type { Opened, OpenRequest } from './open-in-transformers.js';

/** What the page has as globals. */
declare const openFolder: (request: OpenRequest) => Promise<Opened>;
declare const lackOf: (needsHalves: boolean) => Promise<string | undefined>;

/** Opens folders on a page of transformers.js, one after the other; after a failure on a new page. */
export interface Chromium {
  open(request: OpenRequest): Promise<Opened>;
  /** @returns features that its WebGPU, which runs on the CPU, lacks; undefined if it lacks none. */
  lackOf(needsHalves: boolean): Promise<string | undefined>;
  close(): Promise<void>;
}

/** Time limit of a page. */
const TIMEOUT_MS = 5 * 60_000;

/** @param models parent folder of the models, the only other files that pages can fetch */
export async function startChromium(models: string): Promise<Chromium> {
  const server = await servePages({
    texts: new Map<string, string | Uint8Array>([
      ['/', '<!doctype html><title>dtypes</title><script type="module" src="/page.js"></script>'],
      ['/page.js', await bundlePage()],
    ]),
    folders: [
      ['/models/', models],
      ['/runtime/', runtimeFolder()],
    ],
  });
  const browser = await launchChromium([...SOFTWARE_WEBGPU, BASELINE_WASM]);
  const strangers: string[] = [];
  let page: Page | undefined;
  const onPage = async <Given, Found>(call: (given: Given) => Promise<Found>, given: Given): Promise<Found> => {
    page ??= await openPage(browser, server.url, strangers);
    const own = page;
    const timer = setTimeout(() => void own.close(), TIMEOUT_MS);
    try {
      const found = (await own.evaluate(call as never, given as never)) as Found;
      if (strangers.length > 0) throw new Error(`the page asked for ${strangers.join(', ')}`);
      return found;
    } catch (error) {
      // What went wrong may have left something behind.
      page = undefined;
      await own.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  };
  return {
    open: (request) => onPage((given) => openFolder(given), request),
    lackOf: (needsHalves) => onPage((given) => lackOf(given), needsHalves),
    async close() {
      await browser.close();
      await server.close();
    },
  };
}

/** @param strangers receives the URLs of requests to other servers */
async function openPage(browser: Browser, url: string, strangers: string[]): Promise<Page> {
  const page = await browser.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  page.on('request', (request) => {
    if (!/^(blob|data):/.test(request.url()) && !request.url().startsWith(url)) strangers.push(request.url());
  });
  await page.goto(url);
  await page.waitForFunction('globalThis.isReady');
  return page;
}

async function bundlePage(): Promise<Uint8Array> {
  const { outputFiles } = await build({
    entryPoints: ['scripts/dtypes/page.ts'],
    bundle: true,
    format: 'esm',
    target: 'es2022',
    write: false,
    logLevel: 'error',
  });
  return outputFiles[0]!.contents;
}

/** transformers.js depends on another version of onnxruntime-web. */
const runtimeFolder = (): string =>
  dirname(
    createRequire(createRequire(import.meta.url).resolve('@huggingface/transformers')).resolve('onnxruntime-web'),
  );
