/**
 * Writes models of many exporters in every dtype and opens each result as its users do: `npm run dtypes -- [FOLDER...]
 * [--only PART]... [--dtype NAME]... [--genai PYTHON]`. Each FOLDER holds a folder a model; without one, those of the repository's
 * tests, and of ../shared where that is there. A result in transformers.js' layout is opened there by default settings and
 * writes some tokens; onnxruntime-node and onnxruntime-web run it by its path, and their logits are compared. --genai names a
 * Python that has onnxruntime-genai: it opens genai's folders. One process a model. Fails where a model neither works nor is
 * refused by name with a reason.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { DTYPES } from '../src/quantisation/dtypes.js';
import type { DtypeRun } from './dtypes/try-dtype.js';
import { findCases } from './exporters/try-case.js';
import { readArguments, refuse } from './read-arguments.js';

const USAGE = 'npm run dtypes -- [FOLDER...] [--only PART]... [--dtype NAME]... [--genai PYTHON]';
const { values, positionals } = readArguments(USAGE, {
  only: { type: 'string', multiple: true, default: [] },
  dtype: { type: 'string', multiple: true, default: Object.keys(DTYPES) },
  genai: { type: 'string' },
});

const STANDARD = ['test/fixtures/exporters', '../shared/models/exporters', '../shared/models/zoo'];

/** A model that takes longer than this is stuck. */
const TIMEOUT_MS = 15 * 60_000;

const stranger = values.dtype.find((name) => !Object.hasOwn(DTYPES, name));
if (stranger !== undefined) refuse(USAGE, `there is no dtype ${stranger}`);

const folders = positionals.length > 0 ? positionals : STANDARD.filter((folder) => existsSync(folder));
const cases = folders
  .flatMap(findCases)
  .filter(({ name }) => values.only.length === 0 || values.only.some((part) => name.includes(part)));
let failedCount = 0;
for (const { name, folder } of cases) {
  const runs = await tryFolder(folder);
  for (const [dtype, run] of Object.entries(runs)) {
    if (run.outcome === 'failed') failedCount += 1;
    process.stdout.write(`${run.outcome.padEnd(7)} ${name} ${dtype}: ${say(run)}\n`);
  }
}
process.stdout.write(`${cases.length} models, ${failedCount} dtypes failed\n`);
if (failedCount > 0 || cases.length === 0) process.exitCode = 1;

async function tryFolder(folder: string): Promise<Record<string, DtypeRun>> {
  const request = JSON.stringify({ folder, dtypes: values.dtype, genai: values.genai });
  const call = ['--import', 'tsx', 'scripts/dtypes/try-folder.mts', request];
  try {
    const { stdout } = await promisify(execFile)(process.execPath, call, { timeout: TIMEOUT_MS, maxBuffer: 2 ** 26 });
    return JSON.parse(stdout.slice(stdout.lastIndexOf('\n', stdout.length - 2) + 1)) as Record<string, DtypeRun>;
  } catch (error) {
    const { signal, message } = error as { readonly signal?: string; readonly message: string };
    return { all: { outcome: 'failed', reason: signal ? `the process ended by ${signal}` : message } };
  }
}

function say(run: DtypeRun): string {
  if (run.outcome !== 'works') return run.reason;
  const { certificate, opened, bytes } = run;
  const gap = certificate === undefined ? 'not certified' : `certificate ${certificate.toExponential(1)}`;
  return `${bytes} bytes, ${gap}, ${opened.join(', ')}`;
}
