import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';
import { buildPage } from '../../scripts/build-page.js';

const from = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Threads of WebAssembly share memory, which browsers allow to such pages alone. */
const headers = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

const { script, style } = await buildPage();

export default defineConfig({
  root: from('.'),
  base: './',
  // The bundled model.
  publicDir: from('../models'),
  // In this repository the package is its sources; a project that installed it needs neither of these two.
  resolve: { alias: { 'fang-prune': from('../../src/web.ts') } },
  define: { PAGE_SCRIPT: JSON.stringify(script), PAGE_STYLE: JSON.stringify(style) },
  worker: { format: 'es' },
  build: {
    outDir: from('../../demo-output/browser'),
    emptyOutDir: true,
    target: 'es2022',
    chunkSizeWarningLimit: 2000,
  },
  server: { headers },
  preview: { headers },
});
