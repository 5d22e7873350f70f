import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRandom, type Random } from '../../src/linalg/random.js';
import { hashFolder } from './hash-folder.js';
import { drawOne } from './mutate-bytes.js';
import { mutateEntry } from './mutate-entry.js';

/** Inputs of calls: a pruned model and its recipe. */
interface Made {
  readonly pruned: string;
  readonly recipe: string;
}

/** A long command, with its output folder as argument. */
type Call = (out: string, made: Made) => readonly string[];
/** The same for the folder alone. */
type Started = (out: string) => readonly string[];

const MODEL = 'examples/models/tiny-llama';
const SMALL = ['--windows', '12', '--window-length', '64', '--quiet'];
const TEXT = join(MODEL, 'text/prose.txt');
const TASK = join(MODEL, 'tasks/prose.jsonl');

const pruning =
  (...more: readonly string[]): Call =>
  (out) => ['prune', MODEL, '-o', join(out, 'x'), ...more, ...SMALL];

/** Long commands whose results must not depend on kills. */
const COMMANDS: Readonly<Record<string, Call>> = {
  'prune auto': (out, made) => [...pruning('-s', '0.3')(out, made), '--recipe', join(out, 'recipe')],
  'prune o-fang': pruning('-s', '0.3', '--method', 'o-fang'),
  'prune flap': pruning('-s', '0.3', '--method', 'flap'),
  'prune on its own text': pruning('-s', '0.3', '--method', 'obc', '--generate-calibration', '1'),
  'prune, heal and quantise': pruning(
    '-s',
    '0.3',
    '--method',
    'flap',
    '--heal',
    '--heal-windows',
    '8',
    '--dtype',
    'q4',
  ),
  ladder: pruning('-s', '0.1,0.3', '--method', 'obc'),
  observe: (out) => ['observe', MODEL, '-o', join(out, 'x'), '--method', 'o-fang', '--metric', 'divergence', ...SMALL],
  quantize: (out) => ['quantize', MODEL, '-o', join(out, 'x'), '--dtype', 'q4', ...SMALL],
  heal: (out, { pruned }) => [
    ...['heal', MODEL, pruned, '-o', join(out, 'x'), '--heal-windows', '16', '--heal-share', '0'],
    ...['--window-length', '64', '--quiet'],
  ],
  apply: (out, { recipe }) => ['apply', recipe, MODEL, '-o', join(out, 'x'), '--quiet'],
  eval: (out) => [
    ...['eval', MODEL, '--text', TEXT, '--tasks', TASK, '--limit', '40'],
    ...['--resume', join(out, 'scores.jsonl'), '--quiet'],
  ],
};

/** Seconds within which a command must stop after a SIGTERM. */
const STOP_SECONDS = 2;

export interface KillOptions {
  readonly count: number;
  readonly seed: number;
  /** Of those, how many an earlier call has made. */
  readonly from: number;
  /** Damages an entry of the journal before a run is resumed. */
  readonly damage: boolean;
  /** Called as each is known. */
  readonly say: (line: string) => void;
}

/**
 * Kills commands at times spread over their duration, resumes by the same command, and compares the result with that of an
 * uninterrupted run.
 * @returns descriptions of failures
 */
export async function tortureByKills({ count, seed, from, damage, say }: KillOptions): Promise<readonly string[]> {
  const root = mkdtempSync(join(tmpdir(), 'fang-prune-kills-'));
  const random = createRandom(seed);
  const faults: string[] = [];
  const made = { pruned: join(root, 'made/x'), recipe: join(root, 'made/recipe') };
  try {
    await runWhole((out) => [...COMMANDS['prune flap']!(out, made), '--recipe', made.recipe], join(root, 'made'));
    const references = new Map<string, Reference>();
    for (let at = 0; at < count; at += 1) {
      const names = Object.keys(COMMANDS);
      const name = names[at % names.length]!;
      const moment = random();
      if (at < from) continue;
      const call = (out: string) => COMMANDS[name]!(out, made);
      const reference = references.get(name) ?? (await runWhole(call, join(root, 'whole')));
      references.set(name, reference);
      const signal = (at + Math.floor(at / names.length)) % 2 === 0 ? 'SIGKILL' : 'SIGTERM';
      const damaging = damage ? createRandom(seed * 1e6 + at) : undefined;
      const killed = { call, signal, afterMs: moment * reference.ms, out: join(root, 'killed'), damaging } as const;
      const fault = await killAndResume(killed, reference);
      say(
        `${at + 1}/${count} ${name}, ${signal} after ${Math.round(killed.afterMs)} of ${Math.round(reference.ms)} ms: ${fault ?? 'same'}`,
      );
      if (fault !== undefined) faults.push(`${name} (${at}): ${fault}`);
    }
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  return faults;
}

interface Reference {
  readonly sha256: string;
  readonly ms: number;
}

async function runWhole(call: Started, out: string): Promise<Reference> {
  remake(out);
  const start = performance.now();
  const { code, err } = await run(call(out)).ended;
  if (code !== 0) throw new Error(`undisturbed, it ends with ${code}: ${err}`);
  return { sha256: hashFolder(out), ms: performance.now() - start };
}

interface Kill {
  readonly call: Started;
  readonly signal: 'SIGKILL' | 'SIGTERM';
  readonly afterMs: number;
  readonly out: string;
  /** Draws what is done to the journal. */
  readonly damaging: Random | undefined;
}

async function killAndResume(
  { call, signal, afterMs, out, damaging }: Kill,
  reference: Reference,
): Promise<string | undefined> {
  remake(out);
  const { child, ended } = run(call(out));
  await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, afterMs))]);
  const start = performance.now();
  child.kill(signal);
  await ended;
  const seconds = (performance.now() - start) / 1000;
  if (seconds > STOP_SECONDS + 0.5) return `took ${seconds.toFixed(1)} s to stop`;
  if (damaging !== undefined) damageJournal(out, damaging);
  const again = await run(call(out)).ended;
  if (again.code !== 0) return `went on to exit code ${again.code}: ${again.err}`;
  const left = readdirSync(out, { recursive: true, encoding: 'utf8' }).filter((name) => name.includes('partial'));
  if (left.length > 0) return `left ${left.join(', ')}`;
  return hashFolder(out) === reference.sha256 ? undefined : 'other bytes';
}

/** Changes one journal entry, if there is any. */
function damageJournal(out: string, random: Random): void {
  const files = readdirSync(out, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.entry'));
  if (files.length === 0) return;
  const file = drawOne(random, files);
  const place = { subject: out, file, files, foreign: [] };
  const { value, also = [] } = mutateEntry(readFileSync(join(out, file)), random, place);
  for (const [name, content] of [[file, value] as const, ...also])
    writeFileSync(join(out, name), content as Uint8Array);
}

function run(args: readonly string[]) {
  const child = spawn(process.execPath, ['dist/cli.js', ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  let err = '';
  child.stderr.on('data', (bytes) => {
    err += String(bytes);
  });
  const ended = new Promise<{ readonly code: number | null; readonly err: string }>((resolve) => {
    child.once('close', (code) => resolve({ code, err }));
  });
  return { child, ended };
}

export function remake(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
}
