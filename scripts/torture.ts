/**
 * Reads damaged and hostile files: `npm run torture -- [FOLDER...] [--mutants N] [--seed S] [--kind KIND]... [--keep FOLDER]`.
 * Each FOLDER contains a model; default: the example and those of the tests. Mutants are created from a seed and read in watched
 * processes. Prints a table of outcomes. Fails if a process crashes, uses more than `--seconds` of CPU time or more memory than
 * the model's size and `--megabytes`, or an error has no type. `--only KIND:MODEL:SEED` tries one again, and `--keep FOLDER` saves
 * it there. `--kills N` kills the built command line's long commands instead, and resumes by the same command, with `--damage`
 * after damaging a journal entry. `--pairs N` makes two calls at once that write to one output, in one process, two threads or two
 * processes. `--from K` skips the first K of all these, which an earlier call has tried. `--strace` traces the built command
 * line's default `prune`, and fails if it connects to anything or writes outside its output and the temporary folder. `--repeat N`
 * makes N runs in one process, and fails if memory or open files grow.
 */
import { readArguments, refuse } from './read-arguments.js';
import { tortureByKills } from './torture/kills.js';
import { KINDS } from './torture/kinds.js';
import { tortureByMutants } from './torture/mutants.js';
import { tortureByPairs } from './torture/pairs.js';
import { repeatRuns } from './torture/repeat-runs.js';
import { traceDefaultRun } from './torture/trace-run.js';

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

const kinds =
  values.only === undefined ? values.kind.flatMap((names) => names.split(',')) : [values.only.split(':')[0]!];
const unknown = kinds.find((kind) => !Object.hasOwn(KINDS, kind));
if (unknown !== undefined) refuse(USAGE, `--kind ${unknown} is none of ${Object.keys(KINDS).join(', ')}`);
const faults = await tortureByMutants({
  folders: positionals.length > 0 ? positionals : undefined,
  kinds,
  ...(values.only !== undefined && { only: values.only }),
  ...(values.keep !== undefined && { keep: values.keep }),
  count: Number(values.mutants),
  from: Number(values.from),
  seed: Number(values.seed),
  limits: { timeMs: Number(values.seconds) * 1000, memoryBytes: Number(values.megabytes) * 2 ** 20 },
  say,
});
if (faults.length > 0) process.exitCode = 1;
