import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { build, type Format } from 'esbuild';

const MODEL = resolve('test/fixtures/exporters/llama-genai018-fp32');
const MARK = 'planted';
/** Output of a way that works: the model's blocks. */
const EXPECTED = 'blocks: 2';

/** Describes a model in an isolated process. */
const DESCRIBE_ISOLATED = (load: string) => `(async () => {
  const { describe } = ${load};
  const { blocks } = await describe({ model: ${JSON.stringify(MODEL)}, isolate: true });
  console.log('blocks: ' + blocks.length);
})().catch((error) => console.log(error.message))`;
const REQUIRE = "require('fang-prune')";
const IMPORT = "await import('fang-prune')";
const inWorker = `new (require('node:worker_threads').Worker)(${JSON.stringify(DESCRIBE_ISOLATED(IMPORT))}, { eval: true })`;

interface Way {
  readonly args: readonly string[];
  readonly stdin?: string;
  /** Whether the input remains open: the REPL exits at its end, even with pending calls. */
  readonly isOpen?: boolean;
}

/** Ways to run code that is not a file of the package, by the arguments of Node.js. */
const WAYS: Readonly<Record<string, Way>> = {
  'node -e, import()': { args: ['-e', DESCRIBE_ISOLATED(IMPORT)] },
  'node -e, require': { args: ['-e', DESCRIBE_ISOLATED(REQUIRE)] },
  'piped stdin, require': { args: ['-'], stdin: DESCRIBE_ISOLATED(REQUIRE) },
  'piped stdin, ES module': { args: ['--input-type=module', '-'], stdin: DESCRIBE_ISOLATED(IMPORT) },
  'a worker with eval': { args: ['-e', inWorker] },
  'the REPL': {
    args: ['-i'],
    stdin: `${DESCRIBE_ISOLATED(REQUIRE).replaceAll('\n', ' ')}.finally(process.exit)\n`,
    isOpen: true,
  },
  'an ESM bundle': { args: ['bundle.mjs'] },
  'a CommonJS bundle': { args: ['bundle.cjs'] },
};

/**
 * Calls the built package from evaluated code and from bundles, in a folder with other programs under the names of the
 * package's, which must not run.
 */
export async function checkEvaluatedCode(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'fang-prune-evaluated-'));
  try {
    const plant = `require('node:fs').writeFileSync(${JSON.stringify(join(folder, MARK))}, '')`;
    for (const name of ['isolated-worker.js', 'bench-worker.js']) writeFileSync(join(folder, name), plant);
    mkdirSync(join(folder, 'node_modules'));
    symlinkSync(resolve('.'), join(folder, 'node_modules/fang-prune'));
    for (const name of ['onnxruntime-node', 'onnxruntime-web'])
      symlinkSync(resolve('node_modules', name), join(folder, 'node_modules', name));
    await Promise.all([bundle(folder, 'esm', 'bundle.mjs'), bundle(folder, 'cjs', 'bundle.cjs')]);
    await Promise.all(
      Object.entries(WAYS).map(async ([name, way]) => {
        const said = await runNode(folder, way);
        assert.match(said, RegExp(`^(> )*${EXPECTED}$`, 'm'), `${name}: ${said}`);
      }),
    );
    assert.ok(!existsSync(join(folder, MARK)), 'a program of the current folder was run');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function bundle(folder: string, format: Format, name: string): Promise<void> {
  await build({
    stdin: { contents: DESCRIBE_ISOLATED(IMPORT), resolveDir: folder },
    outfile: join(folder, name),
    bundle: true,
    platform: 'node',
    format,
    external: ['onnxruntime-node', 'onnxruntime-web'],
    logLevel: 'error',
  });
}

/** @returns all that it printed */
async function runNode(folder: string, { args, stdin = '', isOpen = false }: Way): Promise<string> {
  const child = spawn(process.execPath, args, { cwd: folder, timeout: 60_000 });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => (said += bytes));
  child.stdin.write(stdin);
  if (!isOpen) child.stdin.end();
  await new Promise((end) => child.once('close', end));
  return said;
}
