/**
 * Prunes with the packed library in other runtimes (Bun, Deno), and in pages of several bundlers, each in a separate project and
 * opened in a browser. Takes minutes, and downloads about 500 MB from the npm registry, the only server that is used.
 * `npm run consumers [NAME...] [-- --write]`: NAME selects some of them; `--write` writes the table to docs/browser.md.
 */
import assert from 'node:assert/strict';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { brotliCompressSync } from 'node:zlib';
import type { Browser } from 'playwright-core';
import { launchChromium } from '../test/support/browser.js';
import { servePages } from '../test/support/page-server.js';
import { execute, makeProject, openWorkshop, type Workshop } from './fresh-project.js';
import { putBetween } from './options/format-options.js';
import { RUNTIMES, tryRuntimes } from './try-runtimes.js';

interface Consumer {
  readonly name: string;
  /** Installed next to the library. */
  readonly packages: readonly string[];
  /** Folders of `scripts/consumers` that make the project. */
  readonly sources: readonly string[];
  readonly build: readonly string[];
  /** What is served. */
  readonly built: string;
  /** What is done by hand when all is built. */
  readonly finish?: (folder: string) => void;
}

const SHARED = ['page.js', 'main.js', 'index.html'];

/** Copies ONNX Runtime's wasm file next to a bundle, for bundlers that do not do so. */
const besideBundle = (folder: string) =>
  cpSync(join(folder, 'node_modules/onnxruntime-web/dist'), join(folder, 'built'), {
    recursive: true,
    filter: (path) => !path.includes('.') || path.endsWith('.wasm') || path.endsWith('dist'),
  });

const CONSUMERS: readonly Consumer[] = [
  {
    name: 'Vite',
    packages: ['vite'],
    sources: SHARED,
    built: 'dist',
    build: ['npx', 'vite', 'build', '--target', 'esnext'],
  },
  {
    name: 'webpack',
    packages: ['webpack', 'webpack-cli'],
    sources: [...SHARED, 'webpack'],
    built: 'built',
    build: ['npx', 'webpack'],
    finish: (folder) => cpSync(join(folder, 'index.html'), join(folder, 'built/index.html')),
  },
  {
    name: 'Next.js',
    packages: ['next', 'react', 'react-dom'],
    sources: ['page.js', 'next'],
    built: 'out',
    build: ['npx', 'next', 'build'],
  },
  {
    name: 'esbuild',
    packages: ['esbuild'],
    sources: SHARED,
    built: 'built',
    build: [
      ...['npx', 'esbuild', 'main.js', '--bundle', '--minify', '--format=esm', '--splitting', '--target=es2022'],
      '--outdir=built',
    ],
    finish: (folder) => {
      cpSync(join(folder, 'index.html'), join(folder, 'built/index.html'));
      besideBundle(folder);
    },
  },
  {
    name: '`<script type="module">`',
    packages: [],
    sources: [...SHARED, 'plain'],
    built: '.',
    build: ['node', '--version'],
  },
];

/** Result of a page, and the files that it loaded. */
interface Seen {
  readonly version: string;
  readonly scriptBytes: number;
  readonly scriptBytesPacked: number;
  readonly wasmBytes: number;
}

const names = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
const isAsked = ({ name }: { readonly name: string }) =>
  names.length === 0 || names.some((part) => name.includes(part));
const workshop = await openWorkshop();
const rows: string[] = [];
try {
  const runtimes = RUNTIMES.filter(isAsked);
  if (runtimes.length > 0) await tryRuntimes(workshop, runtimes);
  const consumers = CONSUMERS.filter(isAsked);
  if (consumers.length > 0) await tryPages(workshop, consumers);
} finally {
  workshop.remove();
}
const table = `| built by | version | scripts | as brotli | WebAssembly |\n| --- | --- | --- | --- | --- |\n${rows.join('\n')}\n`;
if (process.argv.includes('--write'))
  writeFileSync('docs/browser.md', putBetween(readFileSync('docs/browser.md', 'utf8'), 'consumers', table));

async function tryPages(place: Workshop, consumers: readonly Consumer[]): Promise<void> {
  const browser = await launchChromium();
  try {
    for (const consumer of consumers) {
      const row = await tryConsumer(place, browser, consumer);
      rows.push(row);
      console.log(row);
    }
  } finally {
    await browser.close();
  }
}

async function tryConsumer(place: Workshop, opened: Browser, consumer: Consumer): Promise<string> {
  const { name, packages, sources, build, built, finish } = consumer;
  try {
    const folder = await makeProject(place, String(CONSUMERS.indexOf(consumer)), [place.tarball, ...packages]);
    for (const source of sources) {
      const from = join('scripts/consumers', source);
      cpSync(from, extname(source) === '' ? folder : join(folder, source), { recursive: true });
    }
    await execute(folder, build, { NEXT_TELEMETRY_DISABLED: '1' });
    finish?.(folder);
    const seen = await openPage(opened, join(folder, built), versionOf(folder, packages[0]));
    const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(2)} MB`;
    const cells = [seen.scriptBytes, seen.scriptBytesPacked, seen.wasmBytes].map(megabytes);
    return `| ${[name, seen.version, ...cells].join(' | ')} |`;
  } catch (error) {
    process.exitCode = 1;
    const { stdout = '', stderr = '', message } = error as { stdout?: string; stderr?: string; message: string };
    console.error(`${name}: ${message}\n${stdout.slice(-3000)}\n${stderr.slice(-3000)}`);
    return `| ${name} | FAILED |  |  |  |`;
  }
}

function versionOf(folder: string, name: string | undefined): string {
  if (name === undefined) return '';
  return (JSON.parse(readFileSync(join(folder, 'node_modules', name, 'package.json'), 'utf8')) as { version: string })
    .version;
}

async function openPage(opened: Browser, root: string, version: string): Promise<Seen> {
  const server = await servePages({
    texts: new Map([['/', readFileSync(join(root, 'index.html'))]]),
    folders: [
      ['/model/', 'examples/models/tiny-llama'],
      ['/', root],
    ],
  });
  const page = await opened.newPage();
  const scripts = new Map<string, Buffer>();
  let wasmBytes = 0;
  const errors: string[] = [];
  page.on('response', async (response) => {
    const url = response.url();
    if (/\.wasm(\?|$)/.test(url)) wasmBytes += Number(response.headers()['content-length'] ?? 0);
    if (!/\.m?js(\?|$)/.test(url)) return;
    // A worker that its call has ended gives its scripts no more.
    const body = await response.body().catch(() => undefined);
    if (body !== undefined) scripts.set(url, body);
  });
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  try {
    await page.goto(server.url);
    const found = await page.waitForFunction('globalThis.seen', undefined, { timeout: 240_000 }).catch((error) => {
      throw new Error(`${error.message}; the page said: ${errors.join('; ')}`);
    });
    const seen = (await found.jsonValue()) as {
      readonly error?: string;
      readonly parameters: { readonly before: number; readonly after: number };
      readonly files: readonly string[];
    };
    assert.equal(seen.error, undefined, `${seen.error}\n${errors.join('\n')}`);
    assert.ok(seen.parameters.after < seen.parameters.before, 'nothing was pruned');
    assert.ok(seen.files.includes('onnx/model.onnx'), 'no model was written');
    const sum = (list: readonly Buffer[]) => list.reduce((total, { byteLength }) => total + byteLength, 0);
    return {
      version,
      wasmBytes,
      scriptBytes: sum([...scripts.values()]),
      scriptBytesPacked: sum([...scripts.values()].map((script) => brotliCompressSync(script))),
    };
  } finally {
    await page.close();
    await server.close();
  }
}
