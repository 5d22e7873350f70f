import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';
import { build } from 'esbuild';
import { buildPage } from '../../scripts/build-page.js';

const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css',
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
};

/** Pages that share memory with threads. */
const ISOLATION = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' };

export interface PageServer {
  readonly url: string;
  close(): Promise<void>;
}

export interface Served {
  /** Texts by path. */
  readonly texts: ReadonlyMap<string, string | Uint8Array>;
  /** Folders by the path that they begin under; the first that has a file serves it. */
  readonly folders: readonly (readonly [string, string])[];
}

/** Serves texts and folders to pages of this machine, cross-origin isolated. */
export async function servePages({ texts, folders }: Served): Promise<PageServer> {
  const server = createServer(({ url = '/' }, response) => {
    const path = normalize(decodeURIComponent(new URL(url, 'http://x').pathname));
    const headers = { ...ISOLATION, 'content-type': TYPES[extname(path) || '.html'] ?? 'application/octet-stream' };
    const text = texts.get(path);
    if (text !== undefined) return response.writeHead(200, headers).end(text);
    const places = folders.filter(([start]) => path.startsWith(start));
    const found = places.map(([start, folder]) => join(folder, path.slice(start.length))).find(isFile);
    if (found === undefined) return response.writeHead(404, ISOLATION).end();
    response.writeHead(200, { ...headers, 'content-length': statSync(found).size });
    return createReadStream(found).pipe(response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}

const isFile = (path: string): boolean => existsSync(path) && statSync(path).isFile();

/** The entries for browsers as files of a page, `/web.js`, `/core.js` and `/worker.js`, with those of ONNX Runtime. */
export async function bundleForPages(): Promise<Served> {
  const assets = await buildPage();
  const { outputFiles } = await build({
    entryPoints: { web: 'src/web.ts', core: 'src/index.ts', worker: 'src/web/worker.ts' },
    bundle: true,
    splitting: true,
    format: 'esm',
    target: 'es2022',
    outdir: '/',
    write: false,
    define: { PAGE_SCRIPT: JSON.stringify(assets.script), PAGE_STYLE: JSON.stringify(assets.style) },
    logLevel: 'error',
  });
  return {
    texts: new Map(outputFiles.map(({ path, contents }) => [path, contents])),
    folders: [['/', 'node_modules/onnxruntime-web/dist']],
  };
}
