/**
 * Prunes models of many exporters by the default command and their attention alone, opens each result by its path, and
 * continues from its KV cache: `npm run exporters -- [FOLDER...] [--only PART]... [--write]`. Each FOLDER contains one folder
 * per model; default: those of the repository's tests, and of ../shared if it exists. One process per model, so that a crash does
 * not affect other models. Fails if a model neither works nor is refused with a reason.
 *
 * With --write, results are written to docs/results/exporters.json, and by family and reason to docs/research/models.md.
 */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { type Entry, formatExporters, putBetweenMarks } from './exporters/format-exporters.js';
import { type Case, type CaseRun, findCases, WAYS, type Way } from './exporters/try-case.js';
import { readArguments } from './read-arguments.js';

const USAGE = 'npm run exporters -- [FOLDER...] [--only PART]... [--write]';
const { values, positionals } = readArguments(USAGE, {
  only: { type: 'string', multiple: true, default: [] },
  write: { type: 'boolean', default: false },
});

const RESULTS = 'docs/results/exporters.json';
const PAGE = 'docs/research/models.md';
const STANDARD = ['test/fixtures/exporters', '../shared/models/exporters', '../shared/models/zoo'];

/** Time limit of a model. */
const TIMEOUT_MS = 15 * 60_000;

const folders = positionals.length > 0 ? positionals : STANDARD.filter((folder) => existsSync(folder));
const cases = folders.flatMap(findCases).filter(({ name }) => isWanted(name));
const entries: Record<string, Entry> = {};
for (const found of cases) {
  const runs = await runCase(found);
  const { name, exporter, opset, special } = found;
  entries[name] = { exporter, opset, special, runs };
  process.stdout.write(
    `${name}: ${Object.entries(runs)
      .map(([way, run]) => `${way}: ${say(run)}`)
      .join(' | ')}\n`,
  );
}
if (values.write) {
  const kept = { ...(existsSync(RESULTS) ? JSON.parse(readFileSync(RESULTS, 'utf8')) : {}), ...entries };
  const sorted = Object.fromEntries(Object.entries(kept as Record<string, Entry>).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(RESULTS, `${JSON.stringify(sorted, null, 2)}\n`);
  writeFileSync(PAGE, putBetweenMarks(readFileSync(PAGE, 'utf8'), formatExporters(sorted)));
}
const failed = Object.entries(entries).filter(([, { runs }]) =>
  Object.values(runs).some(({ outcome }) => outcome === 'failed'),
);
process.stdout.write(`${cases.length} models, ${failed.length} failed: ${failed.map(([name]) => name).join(', ')}\n`);
if (failed.length > 0 || cases.length === 0) process.exitCode = 1;

function isWanted(name: string): boolean {
  return values.only.length === 0 || values.only.some((part) => name.includes(part));
}

async function runCase({ folder }: Case): Promise<Record<Way, CaseRun>> {
  const call = ['--import', 'tsx', 'scripts/exporters/run-case.mts', folder];
  try {
    const { stdout } = await promisify(execFile)(process.execPath, call, { timeout: TIMEOUT_MS, maxBuffer: 2 ** 26 });
    return JSON.parse(stdout) as Record<Way, CaseRun>;
  } catch (error) {
    const { signal, message } = error as { readonly signal?: string; readonly message: string };
    const run: CaseRun = { outcome: 'failed', reason: signal ? `the process ended by ${signal}` : message };
    return Object.fromEntries(Object.keys(WAYS).map((way) => [way, run])) as Record<Way, CaseRun>;
  }
}

function say(run: CaseRun): string {
  if (run.outcome !== 'works') return `${run.outcome}: ${run.reason}`;
  const left = run.remarks.length > 0 ? `; ${run.remarks.join('; ')}` : '';
  return `works (${run.hasCache ? 'cache' : 'no cache'}, ${run.gap.toExponential(1)}${left})`;
}
