import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Plugin } from 'esbuild';
import { defineConfig, type Options } from 'tsup';
import { buildPage } from './scripts/build-page.js';

const page = await buildPage();

/**
 * `ml-kmeans` draws starting points with `ml-matrix`, all of which bundlers would include: 17 kB. This library draws its own
 * and never calls that code.
 */
const withoutMatrix: Plugin = {
  name: 'without-ml-matrix',
  setup(build) {
    build.onResolve({ filter: /^ml-matrix$/ }, () => ({ path: 'ml-matrix', namespace: 'unused' }));
    build.onLoad({ filter: /.*/, namespace: 'unused' }, () => ({ contents: 'export const Matrix = undefined;' }));
  },
};

const shared = {
  outDir: 'dist',
  target: 'node20',
  platform: 'neutral',
  // The entries share their code, so that an error class is the same class wherever it is imported from.
  splitting: true,
  sourcemap: true,
  treeshake: true,
  external: ['onnxruntime-node', 'onnxruntime-web'],
  // The report page travels with the package as two texts.
  define: { PAGE_SCRIPT: JSON.stringify(page.script), PAGE_STYLE: JSON.stringify(page.style) },
  esbuildPlugins: [withoutMatrix],
} satisfies Options;

const library = { index: 'src/index.ts', node: 'src/node.ts', web: 'src/web.ts' };

// Both are published as ES modules only, so `require` could not reach them, nor CommonJS typings refer to them: they are
// compiled in (see docs/contributing/dependencies.md) and count as development dependencies.
const compiledIn = ['onnx-buf', 'ml-kmeans'];

/** A test runner's sandbox has no `import()` for CommonJS. */
async function requireLateParts(): Promise<void> {
  for (const name of (await readdir(shared.outDir)).filter((name) => name.endsWith('.cjs'))) {
    const path = join(shared.outDir, name);
    await writeFile(path, (await readFile(path, 'utf8')).replace(/\bimport\(('\.\/[\w-]+\.cjs')\)/g, 'require($1)'));
  }
}

export default defineConfig([
  // The browser entry and its worker with all that they import in them, for pages without a bundler; only ONNX Runtime comes beside it.
  {
    ...shared,
    outDir: 'dist/standalone',
    entry: { 'fang-prune': 'src/web.ts', worker: 'src/web/worker.ts' },
    format: 'esm',
    platform: 'browser',
    minify: true,
    sourcemap: false,
    noExternal: [/^(?!onnxruntime-web|@huggingface\/hub)/],
  },
  // Workers are programs of their own, started by whichever format runs.
  {
    ...shared,
    entry: {
      ...library,
      cli: 'src/cli.ts',
      'bench-worker': 'src/node/bench-worker.ts',
      'isolated-worker': 'src/node/isolated-worker.ts',
      worker: 'src/web/worker.ts',
    },
    format: 'esm',
    clean: true,
  },
  {
    ...shared,
    entry: library,
    format: 'cjs',
    // Where a file lies is asked in CommonJS's way first.
    esbuildOptions: (options) => {
      options.logOverride = { 'empty-import-meta': 'silent' };
      // The other format's maps hold the sources; these name files and lines.
      options.sourcesContent = false;
    },
    onSuccess: requireLateParts,
  },
  // `npm run typecheck` checks the sources.
  {
    ...shared,
    entry: library,
    format: ['esm', 'cjs'],
    dts: { only: true, resolve: compiledIn, compilerOptions: { noCheck: true } },
  },
]);
