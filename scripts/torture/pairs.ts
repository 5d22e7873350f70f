import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { createRandom } from '../../src/linalg/random.js';
import { hashFolder } from './hash-folder.js';
import { remake } from './kills.js';

const MODEL = 'test/fixtures/exporters/llama-genai018-fp32';
const [MODULE, COMMON_MODULE] = [resolve('dist/node.js'), resolve('dist/node.cjs')];

/** Reports contain times, and manifests the key of the call, which differs on the command line. */
const TIMES_AND_KEYS = /fang-prune-(report\.(json|html)|files\.json)$/;

/** A call that writes to a folder, in the API and on the command line. */
interface Call {
  readonly call: string;
  readonly request: Readonly<Record<string, unknown>>;
  readonly args: readonly string[];
}

interface Made {
  readonly recipe: string;
  readonly pruned: string;
}

const CALIBRATION = { windowCount: 2, windowLength: 16 };
const SMALL = ['--windows', '2', '--window-length', '16', '--quiet'];

const pruning = (sparsity: number, method: string): Call => ({
  call: 'prune',
  request: { model: MODEL, sparsity, method, calibration: CALIBRATION },
  args: ['prune', MODEL, '-s', String(sparsity), '--method', method, ...SMALL],
});

/** Two calls of each pair go to one output. */
const callsWith = ({ recipe, pruned }: Made): Readonly<Record<string, readonly [Call, Call]>> => {
  const quantising: Call = {
    call: 'quantize',
    request: { model: MODEL, dtype: 'q4', calibration: CALIBRATION },
    args: ['quantize', MODEL, '--dtype', 'q4', ...SMALL],
  };
  const applying: Call = {
    call: 'applyRecipe',
    request: { model: MODEL, recipe },
    args: ['apply', recipe, MODEL, '--quiet'],
  };
  const laddering: Call = {
    call: 'pruneLadder',
    request: { model: MODEL, sparsity: [0.1, 0.4], method: 'flap', calibration: CALIBRATION },
    args: ['prune', MODEL, '-s', '0.1,0.4', '--method', 'flap', ...SMALL],
  };
  const healing: Call = {
    call: 'heal',
    request: { dense: MODEL, pruned, heal: { windowCount: 2, share: 0 }, calibration: { windowLength: 16 } },
    args: ['heal', MODEL, pruned, '--heal-windows', '2', '--heal-share', '0', '--window-length', '16', '--quiet'],
  };
  const observing = (method: string): Call => ({
    call: 'observe',
    request: { model: MODEL, method, calibration: CALIBRATION },
    args: ['observe', MODEL, '--method', method, ...SMALL],
  });
  const [flap, more] = [pruning(0.3, 'flap'), pruning(0.5, 'flap')];
  return {
    'prune and prune': [flap, more],
    'the same prune twice': [flap, flap],
    'prune and quantize': [more, quantising],
    'apply and apply': [applying, applying],
    'ladder and ladder': [laddering, laddering],
    'prune and heal': [flap, healing],
    'observe and observe': [observing('flap'), observing('obc')],
    'apply and prune': [applying, more],
  };
};

/** Ways to make the two calls. */
const SETTINGS: Readonly<Record<string, (call: Call, out: string, force: boolean, index: number) => Promise<Outcome>>> =
  {
    'one process': (call, out, force) => callHere(MODULE, call, out, force),
    'an ES module and CommonJS': (call, out, force, index) =>
      callHere(index === 0 ? MODULE : COMMON_MODULE, call, out, force),
    'two threads': (call, out, force, index) => callInThread(index === 0 ? MODULE : COMMON_MODULE, call, out, force),
    'two processes': callInProcess,
  };

/** The code of an error; undefined for none. */
interface Outcome {
  readonly code?: string | undefined;
  readonly message?: string | undefined;
}

export interface PairOptions {
  readonly count: number;
  readonly seed: number;
  /** Of those, how many an earlier call has made. */
  readonly from: number;
  /** Called as each is known. */
  readonly say: (line: string) => void;
}

/**
 * Makes two calls at once, at various delays, that write to the same output. The final output must equal that of a successful
 * call alone, and the other call must have failed with a typed error.
 * @returns descriptions of failures
 */
export async function tortureByPairs({ count, seed, from, say }: PairOptions): Promise<readonly string[]> {
  const root = mkdtempSync(join(tmpdir(), 'fang-prune-pairs-'));
  const random = createRandom(seed);
  const faults: string[] = [];
  const tally = new Map<string, number>();
  try {
    const made = { recipe: join(root, 'made/recipe'), pruned: join(root, 'made/x') };
    const base = pruning(0.3, 'flap');
    await callHere(MODULE, { ...base, request: { ...base.request, recipe: made.recipe } }, made.pruned, false);
    const pairs = Object.entries(callsWith(made));
    const settings = Object.entries(SETTINGS);
    const references = new Map<string, { readonly sha256: string; readonly ms: number }>();
    for (let at = 0; at < count; at += 1) {
      const [name, calls] = pairs[Math.floor(at / settings.length) % pairs.length]!;
      const [setting, make] = settings[at % settings.length]!;
      const [share, force] = [random(), random() < 0.5];
      if (at < from) continue;
      const whole = [];
      for (const call of calls) {
        const key = call.args.join(' ');
        const found = references.get(key) ?? (await runAlone(call, join(root, 'whole')));
        references.set(key, found);
        whole.push(found);
      }
      const folder = join(root, 'pair');
      remake(folder);
      const out = join(folder, 'x');
      // A process takes some time to start.
      const delayMs = share * share * whole[0]!.ms;
      const outcomes = await Promise.all(
        calls.map(async (call, index) => {
          if (index === 1) await setTimeout(delayMs);
          return make(call, out, force, index);
        }),
      );
      const fault = findFault({ outcomes, whole: whole.map(({ sha256 }) => sha256), folder, force });
      const ends = outcomes.map(({ code = 'done' }) => code).join(', ');
      tally.set(ends, (tally.get(ends) ?? 0) + 1);
      const what = `${name} in ${setting}${force ? ', by force' : ''}, ${Math.round(delayMs)} ms apart`;
      say(`${at + 1}/${count} ${what}: ${ends}${fault === undefined ? '' : `; ${fault}`}`);
      if (fault !== undefined) faults.push(`${what} (${at}): ${ends}; ${fault}`);
    }
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  for (const [ends, times] of tally) say(`${times} times ${ends}`);
  return faults;
}

interface Ended {
  readonly outcomes: readonly Outcome[];
  /** Result of each call alone. */
  readonly whole: readonly string[];
  readonly folder: string;
  readonly force: boolean;
}

function findFault({ outcomes, whole, folder, force }: Ended): string | undefined {
  const untyped = outcomes.find(({ code }) => code !== undefined && code !== 'ERR_OPTION');
  if (untyped !== undefined) return `untyped: ${untyped.message}`;
  const left = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => /partial|\.lock/.test(name));
  if (left.length > 0) return `left ${left.join(', ')}`;
  const done = whole.filter((_, index) => outcomes[index]!.code === undefined);
  if (done.length === 0) return 'neither was done';
  if (new Set(done).size > 1 && !force) return 'both are done, and without force';
  return done.includes(hashFolder(folder, TIMES_AND_KEYS)) ? undefined : 'other bytes than either writes by itself';
}

async function runAlone(call: Call, folder: string) {
  remake(folder);
  const start = performance.now();
  const { code, message } = await callHere(MODULE, call, join(folder, 'x'), false);
  if (code !== undefined) throw new Error(`undisturbed, ${call.call} ends with ${code}: ${message}`);
  return { sha256: hashFolder(folder, TIMES_AND_KEYS), ms: performance.now() - start };
}

type Library = Readonly<Record<string, (request: object) => Promise<unknown>>>;

async function callHere(path: string, { call, request }: Call, out: string, force: boolean): Promise<Outcome> {
  const library = path.endsWith('.cjs')
    ? (createRequire(import.meta.url)(path) as Library)
    : ((await import(pathToFileURL(path).href)) as Library);
  return library[call]!({ ...request, out, force }).then(() => ({}), outcomeOf);
}

const THREAD = `
const { parentPort, workerData: { path, call, request } } = require('node:worker_threads');
import(path).then((library) => library[call](request)).then(
  () => parentPort.postMessage({}),
  ({ code, message }) => parentPort.postMessage({ code: code ?? 'none', message }),
);`;

function callInThread(path: string, { call, request }: Call, out: string, force: boolean): Promise<Outcome> {
  const workerData = { path: pathToFileURL(path).href, call, request: { ...request, out, force } };
  const worker = new Worker(THREAD, { eval: true, workerData });
  return new Promise((done) => {
    worker.once('message', done);
    worker.once('error', (error) => done(outcomeOf(error)));
  });
}

function callInProcess({ args }: Call, out: string, force: boolean): Promise<Outcome> {
  const more = ['--json', '-o', out, ...(force ? ['--force'] : [])];
  const child = spawn(process.execPath, ['dist/cli.js', ...args, ...more], { stdio: ['ignore', 'pipe', 'ignore'] });
  let said = '';
  child.stdout.on('data', (bytes) => {
    said += String(bytes);
  });
  return new Promise((done) => {
    child.once('close', (code) => done(code === 0 ? {} : (JSON.parse(said) as { error: Outcome }).error));
  });
}

function outcomeOf(error: unknown): Outcome {
  const { code = 'none', message } = error as { readonly code?: string; readonly message?: string };
  return { code, message };
}
