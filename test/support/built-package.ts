import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { buildPage } from '../../scripts/build-page.js';
import { publishFolder } from './publish-folder.js';
import { FUSED_LLAMA, SHORT_LLAMA } from './short-llama.js';

const CACHE = resolve('node_modules/.cache/fang-prune');

/** Inputs of the build, except the page's assets. */
const SOURCES = [
  'src',
  'examples',
  'package.json',
  'test/support/built-package.ts',
  'test/support/short-llama.ts',
  'test/support/fuse-blocks.ts',
];

/**
 * The package as `npm run build` makes it for Node.js, in a folder of its own: `package.json`, `dist` and the examples as
 * JavaScript. The examples find two blocks of the bundled model in place of the entire one, and all of them from the folder
 * `whole`. Processes that start from it load in a tenth of the time that `tsx` takes for the sources. Built once for each state
 * of the sources.
 * @returns the folder
 */
export async function buildPackage(): Promise<string> {
  const folder = join(CACHE, `package-${hashSources().slice(0, 12)}`);
  if (existsSync(folder)) return folder;
  mkdirSync(CACHE, { recursive: true });
  removeOld();
  const staging = mkdtempSync(`${folder}-`);
  const { script, style } = await buildPage();
  const shared = { format: 'esm', target: 'node20', platform: 'node', logLevel: 'warning' } as const;
  await build({
    ...shared,
    entryPoints: {
      index: 'src/index.ts',
      node: 'src/node.ts',
      cli: 'src/cli.ts',
      'bench-worker': 'src/node/bench-worker.ts',
      'isolated-worker': 'src/node/isolated-worker.ts',
    },
    bundle: true,
    splitting: true,
    packages: 'external',
    outdir: join(staging, 'dist'),
    define: { PAGE_SCRIPT: JSON.stringify(script), PAGE_STYLE: JSON.stringify(style) },
  });
  const examples = readdirSync('examples').filter((name) => name.endsWith('.ts'));
  await build({
    ...shared,
    entryPoints: examples.map((name) => join('examples', name)),
    outdir: join(staging, 'examples'),
  });
  cpSync('package.json', join(staging, 'package.json'));
  const models = { '.': SHORT_LLAMA, whole: FUSED_LLAMA };
  for (const [root, model] of Object.entries(models)) {
    mkdirSync(join(staging, root, 'examples/models'), { recursive: true });
    symlinkSync(resolve(model), join(staging, root, 'examples/models/tiny-llama'), 'junction');
  }
  return publishFolder(staging, folder);
}

/** Removes builds that are older than a day; others may be in use. */
function removeOld(): void {
  const day = 24 * 60 * 60 * 1000;
  for (const name of readdirSync(CACHE).filter((one) => one.startsWith('package-'))) {
    const age = Date.now() - statSync(join(CACHE, name)).mtimeMs;
    if (age > day) rmSync(join(CACHE, name), { recursive: true, force: true });
  }
}

/** Imports the package's entry for Node.js, whose processes start from the package too. */
export async function importPackage(): Promise<typeof import('../../src/node.js')> {
  return import(pathToFileURL(join(await buildPackage(), 'dist/node.js')).href);
}

function hashSources(): string {
  const hash = createHash('sha256');
  for (const source of SOURCES) {
    const files = source.includes('.')
      ? [source]
      : readdirSync(source, { recursive: true, encoding: 'utf8' })
          .filter((name) => /\.(ts|css|json)$/.test(name) && !name.startsWith('models'))
          .sort()
          .map((name) => join(source, name));
    for (const file of files) hash.update(file).update(readFileSync(file));
  }
  return hash.digest('hex');
}
