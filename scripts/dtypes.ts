/**
 * Writes models of many exporters in every dtype and opens each result as its users do: `npm run dtypes -- [FOLDER...]
 * [--only PART]... [--dtype NAME]... [--genai PYTHON] [--no-pages] [--no-webgpu] [--write]`. Each FOLDER contains one folder per model;
 * default: those of the repository's tests, and of ../shared if it exists. onnxruntime-node and onnxruntime-web run a result by
 * its path. Results in transformers.js' layout are opened with its default settings, in Node.js and on a page of Chromium (wasm,
 * and WebGPU on the CPU); they generate some tokens, and logits are compared. The same is done with one folder of all dtypes,
 * each opened by name, and with a file of `shrink` whose linear layers have several dtypes (if q8, q4 and q2 are tried). --genai:
 * a Python with onnxruntime-genai, which opens genai's folders. One process per model. Fails if a model neither works nor is
 * refused with a reason.
 *
 * With --write, results are written to docs/results/dtypes.json, and as a table to docs/quantisation.md.
 */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { DTYPES } from '../src/quantisation/dtypes.js';
import { formatOpenings, type Runs } from './dtypes/format-openings.js';
import { type DtypeRun, RUNTIMES } from './dtypes/try-dtype.js';
import { findCases } from './exporters/try-case.js';
import { putBetween } from './options/format-options.js';
import { readArguments, refuse } from './read-arguments.js';

const USAGE =
  'npm run dtypes -- [FOLDER...] [--only PART]... [--dtype NAME]... [--genai PYTHON] [--no-pages] [--no-webgpu] [--write]';
const { values, positionals } = readArguments(USAGE, {
  only: { type: 'string', multiple: true, default: [] },
  dtype: { type: 'string', multiple: true, default: Object.keys(DTYPES) },
  genai: { type: 'string' },
  'no-pages': { type: 'boolean', default: false },
  // A model of hundreds of megabytes takes 20 minutes on the CPU.
  'no-webgpu': { type: 'boolean', default: false },
  write: { type: 'boolean', default: false },
});

const RESULTS = 'docs/results/dtypes.json';
const PAGE = 'docs/quantisation.md';
const STANDARD = ['test/fixtures/exporters', '../shared/models/exporters', '../shared/models/zoo'];

/** Time limit of a model. */
const TIMEOUT_MS = 20 * 60_000;

const stranger = values.dtype.find((name) => !Object.hasOwn(DTYPES, name));
if (stranger !== undefined) refuse(USAGE, `there is no dtype ${stranger}`);

const folders = positionals.length > 0 ? positionals : STANDARD.filter((folder) => existsSync(folder));
const cases = folders
  .flatMap(findCases)
  .filter(({ name }) => values.only.length === 0 || values.only.some((part) => name.includes(part)));
const found: Record<string, Runs> = {};
let failedCount = 0;
for (const { name, folder } of cases) {
  const runs = await tryFolder(folder);
  found[name] = runs;
  for (const [dtype, run] of Object.entries(runs)) {
    if (run.outcome !== 'works' && run.outcome !== 'refused') failedCount += 1;
    process.stdout.write(`${run.outcome.padEnd(7)} ${name} ${dtype}: ${say(run)}\n`);
  }
}
if (values.write) write();
process.stdout.write(`${cases.length} models, ${failedCount} dtypes failed\n`);
if (failedCount > 0 || cases.length === 0) process.exitCode = 1;

async function tryFolder(folder: string): Promise<Runs> {
  const { dtype: dtypes, genai } = values;
  const pages = values['no-pages'] ? [] : values['no-webgpu'] ? ['wasm'] : ['wasm', 'webgpu'];
  const request = JSON.stringify({ folder, dtypes, genai, pages });
  const call = ['--import', 'tsx', 'scripts/dtypes/try-folder.mts', request];
  try {
    const { stdout } = await promisify(execFile)(process.execPath, call, { timeout: TIMEOUT_MS, maxBuffer: 2 ** 26 });
    return JSON.parse(stdout.slice(stdout.lastIndexOf('\n', stdout.length - 2) + 1)) as Runs;
  } catch (error) {
    const { signal, message } = error as { readonly signal?: string; readonly message: string };
    return { all: { outcome: 'failed', reason: signal ? `the process ended by ${signal}` : message } };
  }
}

/** Keeps earlier results of a model in dtypes and runtimes that were not tried now. */
function write(): void {
  const kept = (existsSync(RESULTS) ? JSON.parse(readFileSync(RESULTS, 'utf8')) : {}) as Record<string, Runs>;
  for (const [name, runs] of Object.entries(found)) {
    const before = kept[name] ?? {};
    const merged = Object.entries(runs).map(([dtype, run]) => [dtype, withOpenings(run, before[dtype])] as const);
    kept[name] = { ...before, ...Object.fromEntries(merged) };
  }
  const lines = Object.keys(kept)
    .sort()
    .map((name) => `${JSON.stringify(name)}: ${JSON.stringify(kept[name])}`);
  writeFileSync(RESULTS, `{\n${lines.join(',\n')}\n}\n`);
  writeFileSync(PAGE, putBetween(readFileSync(PAGE, 'utf8'), 'dtypes', formatOpenings(kept)));
}

function withOpenings(run: DtypeRun, before: DtypeRun | undefined): DtypeRun {
  if (before === undefined || !('openings' in before) || !('openings' in run)) return run;
  const openings = { ...before.openings, ...run.openings };
  const isOpened = Object.values(openings).every(({ outcome }) => outcome !== 'failed');
  return { ...run, outcome: isOpened ? 'works' : 'opens not everywhere', openings };
}

function say(run: DtypeRun): string {
  if ('reason' in run) return run.reason;
  const { certificate, openings, bytes } = run;
  const gap = certificate === undefined ? 'not certified' : `certificate ${certificate.toExponential(1)}`;
  const said = Object.entries(openings).map(([runtime, opening]) => {
    const found =
      'reason' in opening ? `${opening.outcome}: ${opening.reason}` : (opening.gap?.toExponential(1) ?? 'opened');
    return `${RUNTIMES[runtime as keyof typeof RUNTIMES]} ${found}`;
  });
  return `${bytes} bytes, ${gap}; ${said.join('; ')}`;
}
