import { cpSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { MODEL } from './calls.js';
import { KINDS } from './kinds.js';
import { type Part, prepareSubject } from './prepare-subject.js';
import { makeMutant, type Trial } from './try-mutant.js';
import { createWatchedWorker, type Limits, MISBEHAVED, type Watched } from './watched-worker.js';

export interface MutantsRequest {
  /** Folders with a model. Default: the example and those of the tests. */
  readonly folders?: readonly string[] | undefined;
  /** Rows of `KINDS`. */
  readonly kinds: readonly string[];
  /** Trials of each kind in a round. Default `SHARES`. */
  readonly shares?: Shares;
  /** One mutant to try again, `KIND:MODEL:SEED`. */
  readonly only?: string;
  /** Folder for all mutants. */
  readonly keep?: string;
  readonly count: number;
  /** Mutants that are left out, from the first on. Default 0. */
  readonly from?: number;
  readonly seed: number;
  /** Memory is counted beyond the size of the largest model. */
  readonly limits: Limits;
  readonly say: (line: string) => void;
}

/** Trials of a kind in each round; default 2. */
type Shares = Readonly<Record<string, number>>;

const FIXTURES = 'test/fixtures/exporters';

/** Models are tried most often, since they are read in the most ways. */
const SHARES: Shares = { models: 10, weights: 1, statistics: 4, recipes: 4, journals: 4 };

/**
 * Reads mutants in a watched process, and prints a table of outcomes.
 * @returns names of mutants with an outcome that is not allowed
 */
export async function tortureByMutants(request: MutantsRequest): Promise<readonly string[]> {
  const { only, keep, say, limits } = request;
  const scratch = mkdtempSync(join(tmpdir(), 'fang-prune-torture-'));
  const subjects = await prepareSubjects(request, scratch);
  const largest = Math.max(...[...subjects.values()].map((subject) => bytesOf(join(subject, MODEL))));
  const worker = createWatchedWorker({ ...limits, memoryBytes: limits.memoryBytes + largest });
  const table = new Map<string, Map<string, number>>();
  const failed: string[] = [];
  let [longest, peak, tried] = [0, 0, 0];
  /** Repeats a failure in a new process, since earlier trials may have caused it. */
  const tryTwice = async (trial: Trial) => {
    const work = join(scratch, 'work');
    const first = await worker.try(trial, work);
    const isDoubtful =
      first !== undefined && first.before > 0 && (first.outcome === 'too large' || first.outcome === 'crash');
    return isDoubtful ? worker.try(trial, work, true) : first;
  };
  try {
    for (const name of only === undefined ? drawTrials(request, [...subjects.keys()]) : [only]) {
      const [kind = '', subject = '', seed = ''] = name.split(':');
      const trial = { kind, subject: subjects.get(subject)!, seed: Number(seed) };
      const watched = await tryTwice(trial);
      if (watched === undefined) continue;
      longest = Math.max(longest, watched.ms);
      peak = Math.max(peak, watched.peakBytes);
      count(table, kind, watched.outcome);
      if (++tried % 100 === 0) process.stderr.write(`${tried} tried, ${failed.length} not allowed\n`);
      if (MISBEHAVED.has(watched.outcome)) failed.push(name);
      if (MISBEHAVED.has(watched.outcome) || only !== undefined) show(say, name, watched);
      if (keep !== undefined) makeMutant(trial, join(keep, name.replaceAll(':', '-')));
    }
  } finally {
    await worker.stop();
    rmSync(scratch, { recursive: true, force: true });
  }
  for (const line of formatTable(table)) say(line);
  const figures = `longest ${Math.round(longest)} ms, peak ${Math.round(peak / 2 ** 20)} MB`;
  say(`${figures}; not allowed: ${failed.length}`);
  for (const name of failed) say(name);
  return failed;
}

/** Valid models and the files derived from them, by name. */
async function prepareSubjects({ folders, kinds }: MutantsRequest, scratch: string): Promise<Map<string, string>> {
  const standard = () => ['examples/models/tiny-llama', ...readdirSync(FIXTURES).map((name) => join(FIXTURES, name))];
  const parts = new Set<Part>(kinds.flatMap((kind) => KINDS[kind]!.needs ?? []));
  const subjects = new Map<string, string>();
  for (const folder of folders ?? standard()) {
    const name = basename(resolve(folder));
    const subject = join(scratch, name);
    cpSync(folder, join(subject, MODEL), { recursive: true, dereference: true });
    await prepareSubject(subject, parts);
    subjects.set(name, subject);
  }
  return subjects;
}

const bytesOf = (folder: string): number =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' }).reduce(
    (sum, name) => sum + statSync(join(folder, name)).size,
    0,
  );

function* drawTrials(request: MutantsRequest, names: readonly string[]): Generator<string> {
  const { shares = SHARES, count, from = 0, seed } = request;
  const kinds = request.kinds.flatMap((kind) => new Array<string>(shares[kind] ?? 2).fill(kind));
  for (let at = from; at < count; at++)
    yield `${kinds[Math.floor(at / names.length) % kinds.length]}:${names[at % names.length]}:${seed * 1e6 + at}`;
}

function count(table: Map<string, Map<string, number>>, kind: string, outcome: string): void {
  const row = table.get(outcome) ?? new Map<string, number>();
  row.set(kind, (row.get(kind) ?? 0) + 1);
  table.set(outcome, row);
}

function show(say: MutantsRequest['say'], name: string, { outcome, said = '', what, ms, peakBytes }: Watched): void {
  const figures = `${Math.round(ms)} ms, ${Math.round(peakBytes / 2 ** 20)} MB`;
  say(`${name} ${outcome} (${figures}): ${what ?? ''}\n  ${JSON.stringify(said)}`);
}

function formatTable(table: ReadonlyMap<string, ReadonlyMap<string, number>>): string[] {
  const kinds = [...new Set([...table.values()].flatMap((row) => [...row.keys()]))];
  const line = (cells: readonly (string | number)[]) => `| ${cells.join(' | ')} |`;
  const rows = [...table].sort().map(([outcome, row]) => line([outcome, ...kinds.map((kind) => row.get(kind) ?? 0)]));
  return [line(['outcome', ...kinds]), line(['---', ...kinds.map(() => '---')]), ...rows];
}
