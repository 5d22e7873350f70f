import { defineConfig } from 'tsup';

const shared = {
  outDir: 'dist',
  target: 'node20',
  platform: 'neutral',
  splitting: true,
  sourcemap: true,
  treeshake: true,
  // The entries share one chunk of code, so that an error class is the same class wherever it is imported from.
  external: ['onnxruntime-node', 'onnxruntime-web'],
} as const;

const library = { index: 'src/index.ts', node: 'src/node.ts', web: 'src/web.ts' };

export default defineConfig([
  { ...shared, entry: { ...library, cli: 'src/cli.ts' }, format: 'esm', clean: true },
  // onnx-buf and ml-kmeans are published as ES modules only; `require` needs them inside.
  { ...shared, entry: library, format: 'cjs', noExternal: ['onnx-buf', 'ml-kmeans'] },
  { ...shared, entry: library, format: ['esm', 'cjs'], dts: { only: true } },
]);
