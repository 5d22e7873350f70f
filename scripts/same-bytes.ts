/**
 * Prunes models with two built checkouts and compares what they write, byte for byte: `npm run same-bytes -- OTHER_CHECKOUT
 * [MODEL_FOLDER...]`, by default the bundled model and the exporters' of the tests. Every method with FFNs alone and with heads,
 * several shots, a ladder, saved statistics and a recipe. Run it before and after a change that must not change results.
 * Each `--only` must be part of a model's and an experiment's name together.
 * With `--weights` only weights and logits are compared, bit for bit: files may then differ in constants and names of nodes.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { METHODS, type MethodName } from '../src/compensation/methods.js';
import { createNodeEngine, openModelFolder } from '../src/node.js';
import { openLanguageModel } from '../src/pipeline/open-language-model.js';
import { readArguments, refuse } from './read-arguments.js';

const USAGE =
  'npm run same-bytes -- OTHER_CHECKOUT [MODEL_FOLDER...] [--only PART]... [--weights] [--windows 4] [--window-length 32]';
const { values, positionals } = readArguments(USAGE, {
  only: { type: 'string', multiple: true, default: [] },
  weights: { type: 'boolean', default: false },
  windows: { type: 'string', default: '4' },
  'window-length': { type: 'string', default: '32' },
});
const [other, ...given] = positionals;
if (other === undefined) refuse(USAGE, 'the other checkout is missing');
const fixtures = 'test/fixtures/exporters';
const models =
  given.length > 0
    ? given
    : ['examples/models/tiny-llama', ...readdirSync(fixtures).map((name) => join(fixtures, name))];

const calibration = ['--windows', values.windows, '--window-length', values['window-length']];
const prune = (model: string, out: string, ...more: readonly string[]) => [
  ...['prune', model, '--out', out, '--sparsity', '0.3', ...(more.some(looksAtNone) ? [] : calibration)],
  ...more,
];
const looksAtNone = (word: string) => METHODS[word as MethodName]?.needs === 'none';

/** Commands and their output folders; a later command may read the output of an earlier one. */
type Experiment = (model: string, at: (name: string) => string) => readonly (readonly string[])[];

const EXPERIMENTS: Readonly<Record<string, Experiment>> = {
  ...Object.fromEntries(
    Object.keys(METHODS).flatMap((method) => [
      [method, (model, at) => [prune(model, at('out'), '--method', method)]] satisfies [string, Experiment],
      [`${method}, FFN`, (model, at) => [prune(model, at('out'), '--method', method, '--modules', 'ffn')]] satisfies [
        string,
        Experiment,
      ],
    ]),
  ),
  'auto on text alone': (model, at) => [prune(model, at('out'), '--no-generate-calibration')],
  ladder: (model, at) => [
    ['prune', model, '--out', at('out'), '--sparsity', '0.1,0.4', '--method', 'obc', ...calibration],
  ],
  statistics: (model, at) => [
    ['observe', model, '--out', at('statistics'), '--method', 'o-fang', '--modules', 'ffn', ...calibration],
    [
      'prune',
      model,
      '--out',
      at('out'),
      '--sparsity',
      '0.3',
      '--method',
      'o-fang',
      '--modules',
      'ffn',
      '--statistics',
      at('statistics'),
    ],
  ],
  recipe: (model, at) => [
    prune(model, at('first'), '--method', 'obc', '--recipe', at('recipe')),
    ['apply', at('recipe'), model, '--out', at('out')],
  ],
};

const PROMPT = Int32Array.from({ length: 12 }, (_, at) => (at * 37 + 11) % 256);

let comparisons = 0;
let differences = 0;
for (const model of models) {
  for (const [name, experiment] of Object.entries(EXPERIMENTS)) {
    if (!values.only.every((part) => `${basename(model)} ${name}`.includes(part))) continue;
    const [ours, theirs] = [await run(process.cwd(), model, experiment), await run(resolve(other), model, experiment)];
    comparisons += 1;
    if (ours !== theirs) differences += 1;
    process.stdout.write(
      `${basename(model)}, ${name}: ${ours === theirs ? `same (${ours})` : `${ours} | ${theirs}`}\n`,
    );
  }
}
process.stdout.write(`${comparisons} compared, ${differences} differ\n`);
if (differences > 0 || comparisons === 0) process.exitCode = 1;

/** Shortened SHA-256 of the files that one checkout writes, or its error. */
async function run(checkout: string, model: string, experiment: Experiment): Promise<string> {
  const scratch = mkdtempSync(join(tmpdir(), 'fang-prune-same-'));
  try {
    for (const command of experiment(resolve(model), (name) => join(scratch, name))) {
      execFileSync(process.execPath, [join(checkout, 'dist/cli.js'), ...command, '--quiet'], { stdio: 'pipe' });
    }
    return await (values.weights ? hashModels : hashFolder)(join(scratch, 'out'));
  } catch (error) {
    const { status } = error as { readonly status?: number | null };
    if (status === undefined) throw error;
    return `exit code ${status}`;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** All files but reports, which hold times, and the list of them. */
function hashFolder(folder: string): string {
  const hash = createHash('sha256');
  const names = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.startsWith('fang-prune-'))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  for (const name of names) hash.update(name.slice(folder.length)).update(readFileSync(name));
  return hash.digest('hex').slice(0, 16);
}

/** All weights by name, and logits on a prompt and the tokens after it, of the models in a folder. */
async function hashModels(folder: string): Promise<string> {
  const hash = createHash('sha256');
  const configs = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    ['config.json', 'genai_config.json'].includes(basename(name)),
  );
  const engine = await createNodeEngine();
  for (const root of [...new Set(configs.map((name) => dirname(join(folder, name))))].sort()) {
    const opened = await openModelFolder(root);
    const { weights } = await opened.load();
    for (const name of [...weights.keys()].filter((one) => !one.startsWith('fang_prune/')).sort())
      hash.update(name).update(await weights.get(name)!.read());
    const language = await openLanguageModel(engine, opened);
    const reader = language.createReader();
    for (const tokens of [PROMPT, PROMPT.subarray(0, 1)]) hash.update((await reader.read([tokens])).slice());
    await language.release();
    await opened.close();
  }
  return hash.digest('hex').slice(0, 16);
}
