import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { build, type Format } from 'esbuild';

const MODEL = resolve('examples/models/tiny-llama');
const MARK = 'planted';

/** Looks at a model in a process of its own and in this one. */
const CALIBRATION_OR_STATISTICS = (load: string) => `(async () => {
  const { describe } = ${load};
  const request = { model: ${JSON.stringify(MODEL)} };
  const [apart, here] = [await describe({ ...request, isolate: true }), await describe(request)];
  console.log(apart.blocks.length === here.blocks.length ? 'same' : 'other');
})().catch((error) => console.log(error.message))`;
const REQUIRE = "require('fang-prune')";
const IMPORT = "await import('fang-prune')";
const inWorker = `new (require('node:worker_threads').Worker)(${JSON.stringify(CALIBRATION_OR_STATISTICS(IMPORT))}, { eval: true })`;

interface Way {
  readonly args: readonly string[];
  readonly stdin?: string;
  /** Whether more input may come: the REPL ends with its input, whatever is under way. */
  readonly isOpen?: boolean;
}

/** Ways to run code that lies in no file of the package, by what Node.js is given. */
const WAYS: Readonly<Record<string, Way>> = {
  'node -e, import()': { args: ['-e', CALIBRATION_OR_STATISTICS(IMPORT)] },
  'node -e, require': { args: ['-e', CALIBRATION_OR_STATISTICS(REQUIRE)] },
  'piped stdin, require': { args: ['-'], stdin: CALIBRATION_OR_STATISTICS(REQUIRE) },
  'piped stdin, ES module': { args: ['--input-type=module', '-'], stdin: CALIBRATION_OR_STATISTICS(IMPORT) },
  'a worker with eval': { args: ['-e', inWorker] },
  'the REPL': {
    args: ['-i'],
    stdin: `${CALIBRATION_OR_STATISTICS(REQUIRE).replaceAll('\n', ' ')}.finally(process.exit)\n`,
    isOpen: true,
  },
  'an ESM bundle': { args: ['bundle.mjs'] },
  'a CommonJS bundle': { args: ['bundle.cjs'] },
};

/**
 * Calls the built package from evaluated code and from bundles, in a folder that holds programs by the names of the package's own,
 * which must not run.
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
        assert.match(said, /^(> )*same$/m, `${name}: ${said}`);
      }),
    );
    assert.ok(!existsSync(join(folder, MARK)), 'a program of the current folder was run');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function bundle(folder: string, format: Format, name: string): Promise<void> {
  await build({
    stdin: { contents: CALIBRATION_OR_STATISTICS(IMPORT), resolveDir: folder },
    outfile: join(folder, name),
    ...{ bundle: true, platform: 'node', format, external: ['onnxruntime-node', 'onnxruntime-web'] },
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
