/**
 * Reads damaged and hostile files: `npm run torture -- [FOLDER...] [--mutants N] [--seed S] [--kind KIND]... [--keep FOLDER]`.
 * Each FOLDER holds a model; without one, the example and those of the tests. Mutants are made by a seed and read in processes
 * of their own, which are watched. Prints a table of outcomes and fails where a process crashed, took more than `--seconds` of
 * the processor, held more than `--megabytes` over the model's size, or an error had no type. `--only KIND:MODEL:SEED` tries one again, and
 * `--keep FOLDER` leaves it there. `--kills N` kills the built command line's long commands instead, and goes on by the same
 * command, with `--damage` after an entry of the journal was damaged; `--from K` leaves out the first K of either, which an earlier
 * call has tried. `--strace` traces the built command line's default `prune`, and fails where it connects to anything or writes
 * beside its output and the temporary folder. `--repeat N` makes N runs in one process and fails where memory or open files grow.
 * `--pairs N` makes two calls at once that write to one output, in one process, two threads or two processes; `--from K` goes for them too.
 */
import { cpSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { readArguments, refuse } from './read-arguments.js';
import { MODEL } from './torture/calls.js';
import { tortureByKills } from './torture/kills.js';
import { KINDS } from './torture/kinds.js';
import { tortureByPairs } from './torture/pairs.js';
import { type Part, prepareSubject } from './torture/prepare-subject.js';
import { repeatRuns } from './torture/repeat-runs.js';
import { traceDefaultRun } from './torture/trace-run.js';
import { makeMutant, type Trial } from './torture/try-mutant.js';
import { createWatchedWorker, MISBEHAVED, type Watched } from './torture/watched-worker.js';

const USAGE =
  'npm run torture -- [FOLDER...] [--mutants N] [--seed S] [--kind KIND]... [--only KIND:MODEL:SEED] [--keep FOLDER] | --kills N [--damage] [--from K] [--seed S] | --pairs N [--from K] [--seed S] | --strace [-- OPTION...] | --repeat N [FOLDER]';
const { values, positionals } = readArguments(USAGE, {
  mutants: { type: 'string', default: '1000' },
  seed: { type: 'string', default: '1' },
  kind: { type: 'string', multiple: true, default: Object.keys(KINDS) },
  only: { type: 'string' },
  keep: { type: 'string' },
  kills: { type: 'string' },
  pairs: { type: 'string' },
  damage: { type: 'boolean', default: false },
  strace: { type: 'boolean', default: false },
  repeat: { type: 'string' },
  from: { type: 'string', default: '0' },
  seconds: { type: 'string', default: '60' },
  megabytes: { type: 'string', default: '512' },
});

const say = (line: string) => process.stdout.write(`${line}\n`);

if (values.strace) {
  const strays = traceDefaultRun(positionals, say);
  say(`calls that are not allowed, and files that were left: ${strays.length}`);
  for (const stray of strays) say(stray);
  process.exit(strays.length > 0 ? 1 : 0);
}

if (values.repeat !== undefined) {
  const leaks = await repeatRuns(Number(values.repeat), { model: positionals[0], say });
  say(`leaks: ${leaks.length}`);
  for (const leak of leaks) say(leak);
  process.exit(leaks.length > 0 ? 1 : 0);
}

if (values.pairs !== undefined) {
  const [count, seed, from] = [values.pairs, values.seed, values.from].map(Number) as [number, number, number];
  const faults = await tortureByPairs({ count, seed, from, say });
  say(`${count - from} pairs; not allowed: ${faults.length}`);
  for (const fault of faults) say(fault);
  process.exit(faults.length > 0 ? 1 : 0);
}

if (values.kills !== undefined) {
  const faults = await tortureByKills({
    count: Number(values.kills),
    seed: Number(values.seed),
    from: Number(values.from),
    damage: values.damage,
    say,
  });
  say(`${Number(values.kills) - Number(values.from)} kills; not allowed: ${faults.length}`);
  for (const fault of faults) say(fault);
  process.exit(faults.length > 0 ? 1 : 0);
}

const FIXTURES = 'test/fixtures/exporters';
const STANDARD = ['examples/models/tiny-llama', ...readdirSync(FIXTURES).map((name) => join(FIXTURES, name))];

/** Models are read more ways than anything else. */
const SHARES: Readonly<Record<string, number>> = { models: 10, weights: 1, statistics: 4, recipes: 4, journals: 4 };

const chosen =
  values.only === undefined ? values.kind.flatMap((kinds) => kinds.split(',')) : [values.only.split(':')[0]!];
const unknown = chosen.find((kind) => !Object.hasOwn(KINDS, kind));
if (unknown !== undefined) refuse(USAGE, `--kind ${unknown} is none of ${Object.keys(KINDS).join(', ')}`);
const parts = new Set<Part>(chosen.flatMap((kind) => KINDS[kind]!.needs ?? []));

const scratch = mkdtempSync(join(tmpdir(), 'fang-prune-torture-'));
const subjects = new Map<string, string>();
for (const folder of positionals.length > 0 ? positionals : STANDARD) {
  const name = basename(resolve(folder));
  const subject = join(scratch, name);
  cpSync(folder, join(subject, MODEL), { recursive: true, dereference: true });
  await prepareSubject(subject, parts);
  subjects.set(name, subject);
}
const bytesOf = (folder: string): number =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' }).reduce(
    (sum, name) => sum + statSync(join(folder, name)).size,
    0,
  );
const largest = Math.max(...[...subjects.values()].map((subject) => bytesOf(join(subject, MODEL))));
const worker = createWatchedWorker({
  timeMs: Number(values.seconds) * 1000,
  memoryBytes: Number(values.megabytes) * 2 ** 20 + largest,
});
const work = join(scratch, 'work');
const table = new Map<string, Map<string, number>>();
const failed: string[] = [];
let [longest, peak, tried] = [0, 0, 0];
try {
  for (const { name, trial } of values.only === undefined ? drawTrials() : [parseTrial(values.only)]) {
    const watched = await tryTwice(trial);
    if (watched === undefined) continue;
    longest = Math.max(longest, watched.ms);
    peak = Math.max(peak, watched.peakBytes);
    count(trial.kind, watched.outcome);
    if (++tried % 100 === 0) process.stderr.write(`${tried} tried, ${failed.length} not allowed\n`);
    if (MISBEHAVED.has(watched.outcome)) failed.push(name);
    if (MISBEHAVED.has(watched.outcome) || values.only !== undefined) show(name, watched);
    if (values.keep !== undefined) makeMutant(trial, join(values.keep, name.replaceAll(':', '-')));
  }
} finally {
  await worker.stop();
  rmSync(scratch, { recursive: true, force: true });
}
printTable();
if (failed.length > 0) process.exitCode = 1;

/** A process that had others before may suffer from what they left. */
async function tryTwice(trial: Trial): Promise<Watched | undefined> {
  const first = await worker.try(trial, work);
  const isDoubtful =
    first !== undefined && first.before > 0 && (first.outcome === 'too large' || first.outcome === 'crash');
  return isDoubtful ? worker.try(trial, work, true) : first;
}

function* drawTrials(): Generator<{ name: string; trial: Trial }> {
  const kinds = chosen.flatMap((kind) => new Array<string>(SHARES[kind] ?? 2).fill(kind));
  const names = [...subjects.keys()];
  for (let at = Number(values.from); at < Number(values.mutants); at++) {
    const name = names[at % names.length]!;
    const kind = kinds[Math.floor(at / names.length) % kinds.length]!;
    const seed = Number(values.seed) * 1e6 + at;
    yield { name: `${kind}:${name}:${seed}`, trial: { kind, subject: subjects.get(name)!, seed } };
  }
}

function parseTrial(name: string): { name: string; trial: Trial } {
  const [kind = '', subject = '', seed = ''] = name.split(':');
  return { name, trial: { kind, subject: subjects.get(subject)!, seed: Number(seed) } };
}

function count(kind: string, outcome: string): void {
  const row = table.get(outcome) ?? new Map<string, number>();
  row.set(kind, (row.get(kind) ?? 0) + 1);
  table.set(outcome, row);
}

function show(name: string, { outcome, said = '', what, ms, peakBytes }: Watched): void {
  const figures = `${Math.round(ms)} ms, ${Math.round(peakBytes / 2 ** 20)} MB`;
  process.stdout.write(`${name} ${outcome} (${figures}): ${what ?? ''}\n  ${JSON.stringify(said)}\n`);
}

function printTable(): void {
  const kinds = [...new Set([...table.values()].flatMap((row) => [...row.keys()]))];
  const line = (cells: readonly (string | number)[]) => `| ${cells.join(' | ')} |\n`;
  process.stdout.write(line(['outcome', ...kinds]) + line(['---', ...kinds.map(() => '---')]));
  for (const [outcome, row] of [...table].sort()) {
    process.stdout.write(line([outcome, ...kinds.map((kind) => row.get(kind) ?? 0)]));
  }
  process.stdout.write(
    `longest ${Math.round(longest)} ms, peak ${Math.round(peak / 2 ** 20)} MB; not allowed: ${failed.length}\n${failed.join('\n')}\n`,
  );
}
