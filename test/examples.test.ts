import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { prune } from '../src/node.js';
import { buildPackage } from './support/built-package.js';
import { SHORT_LLAMA } from './support/short-llama.js';

const RUNNER = resolve('test/support/run-examples.mjs');

/** Parameters of the model that the tests use in place of the bundled one. */
const COUNT = 922_560;

/** Expected output of each example; an example without a row fails. */
const PRINTED: Readonly<Record<string, RegExp>> = {
  '01-prune-a-folder.ts': RegExp(`${COUNT} -> 7\\d{5} parameters`),
  '02-describe-a-model.ts': RegExp(`\\d+ of ${COUNT} parameters can be pruned\nblock 0: .*attention`),
  '03-evaluate.ts': /(perplexity \d+\.\d\d over \d+ tokens\nThe city of[\s\S]*acc 0\.\d\d ±[\s\S]*){2}B is worse by/,
  '04-own-importance.ts': /would remove (27|28|29|30)\.\d %/,
  '05-own-compensation.ts': RegExp(`${COUNT} -> 8\\d{5} parameters`),
  '06-stages-by-hand.ts': /neuron 3 goes; the output gets the bias 6 -3 in its place/,
  '09-own-allocation.ts': /block 0: 512 -> 435\n[\s\S]*removes (2[5-9]|3\d)\.\d %/,
  '07-gradients.ts': /loss \d+\.\d{3} nats per token\n(block \d: mean \|h dL\/dh\| \d\.\d\de-\d\n?){2}$/,
  '08-fang-by-hand.ts': /FFNs pruned by hand: .*08-fang-by-hand/,
  '10-own-engine.ts': /2 blocks: \d+ sessions, \d+ runs/,
  '11-node-server.ts': RegExp(`"percent":\\d+[^]*"parameters":\\{"before":${COUNT},"after":7\\d{5}\\}`),
  '12-sweep.ts': /10 %: 3\.\d MB, perplexity[\s\S]*30 %[\s\S]*good enough: .*12-sweep/,
  '13-worker-thread.ts': RegExp(`${COUNT} -> 7\\d{5} parameters\n\\d+ steps heard of; the main thread was free`),
  '14-modules-by-hand.ts': /179 of 256 neurons stay, and heads 2 and 3\n[\s\S]*0\.4: 154 154/,
  '15-trim-by-hand.ts': /2048 -> 2000 tokens in 1 tables\nvocab_size 2000/,
  '16-evaluate-by-hand.ts': /perplexity \d+\.\d\d over 32 tokens\n[\s\S]*1 item of multiple-choice/,
};

/** Examples that need all six blocks; the others run on two. */
const ON_WHOLE_MODEL = ['09-own-allocation.ts'];

const examples = readdirSync('examples').filter((name) => name.endsWith('.ts'));
/** Modules that can be imported where only this library is installed. */
const IMPORTABLE = /^(fang-prune(\/core)?|node:\w[\w/]*)$/;

/** Folders that are separate projects. */
const PROJECTS = ['browser', 'fleet'];

const allExamples = readdirSync('examples', { recursive: true, encoding: 'utf8' }).filter(
  (name) => /\.[cm]?[jt]s$/.test(name) && !PROJECTS.some((project) => name.startsWith(project)),
);

it.each(allExamples)('%s imports only the library and Node.js', (name) => {
  const source = readFileSync(join('examples', name), 'utf8');
  const imported = [...source.matchAll(/(?:\bfrom |\bimport |\bimport\(|\brequire\()'([^']+)'/g)].map(
    ([, target = '']) => target,
  );
  expect(imported).toContainEqual(expect.stringMatching(/^fang-prune/));
  expect(imported.filter((target) => !IMPORTABLE.test(target))).toEqual([]);
});

/** Examples that start processes or threads; the others share one process. */
const IN_OWN_PROCESS = ['11-node-server.ts', '13-worker-thread.ts'];

let folder = '';
/** Output of each example. */
const printed = new Map<string, string>();

beforeAll(async () => {
  const built = await buildPackage();
  folder = mkdtempSync(join(tmpdir(), 'fang-prune-examples-'));
  const runOf = (name: string) => ({
    // `fang-prune` resolves to the built package there.
    file: join(built, 'examples', name.replace('.ts', '.js')),
    cwd: ON_WHOLE_MODEL.includes(name) ? join(built, 'whole') : built,
    out: join(folder, name),
  });
  const start = promisify(execFile);
  for (const name of IN_OWN_PROCESS) {
    const { file, cwd, out } = runOf(name);
    printed.set(name, (await start(process.execPath, [file, out], { cwd })).stdout);
  }
  const together = examples.filter((name) => !IN_OWN_PROCESS.includes(name));
  const { stdout } = await start(process.execPath, [RUNNER, JSON.stringify(together.map(runOf))]);
  for (const [at, text] of (JSON.parse(stdout) as string[]).entries()) printed.set(together[at]!, text);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

it.each(examples)('%s prints the expected output', (name) => {
  expect(printed.get(name)).toMatch(PRINTED[name] ?? /^an example without a row in PRINTED$/);
});

it('08-fang-by-hand.ts writes the same bytes as the method', async () => {
  const out = join(folder, 'o-fang');
  const run = { model: SHORT_LLAMA, out, sparsity: 0.3, method: 'o-fang', modules: 'ffn' } as const;
  await prune({ ...run, calibration: { windowCount: 2 }, certify: false, evaluation: false });
  const bytesOf = (name: string) => readFileSync(join(folder, name, 'onnx/model.onnx'));
  expect(Buffer.compare(bytesOf('08-fang-by-hand.ts'), bytesOf('o-fang'))).toBe(0);
});

it('08-fang-by-hand.ts has at most 40 lines of code', () => {
  const lines = readFileSync('examples/08-fang-by-hand.ts', 'utf8').split('\n');
  expect(lines.filter((line) => !/^\s*(\/\/|\/?\*|$)/.test(line)).length).toBeLessThanOrEqual(40);
});
