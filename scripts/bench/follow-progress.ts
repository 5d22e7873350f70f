/**
 * Compares the remaining time that runs show with the actual one: pruning, pruning and writing `q4`, healing, evaluating. Each
 * run is a separate process.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readArguments } from '../read-arguments.js';
import type { FollowedRun, Told } from './progress-run.mjs';

const USAGE =
  'npm run bench -- progress [MODEL_FOLDER] [--text FILE] [--windows 16] [--window-length 256] [--heal-windows 32] ' +
  '[--only prune,q4,heal,eval] [--clock processor|wall] [--record FOLDER]';

/** From here on a time left is to be right. */
const FIRST = 0.1;
/** Where so little is left, a second is much of it. */
const LAST = 0.05;

/** Errors of the remaining time that a run showed. */
interface Deviation {
  /** As a fraction of the actual remaining time. */
  readonly left: number;
  /** As a fraction of the actual time of the entire run. */
  readonly total: number;
  /** Fraction of the run's time, after its first tenth, in which a time left was shown. */
  readonly shown: number;
}

export function followProgress(): void {
  const { values, positionals } = readArguments(USAGE, {
    text: { type: 'string' },
    windows: { type: 'string', default: '16' },
    'window-length': { type: 'string', default: '256' },
    'heal-windows': { type: 'string', default: '32' },
    only: { type: 'string', default: 'prune,q4,heal,eval' },
    clock: { type: 'string', default: 'processor' },
    record: { type: 'string' },
  });
  const [, model = 'examples/models/tiny-llama'] = positionals;
  const folder = mkdtempSync(join(tmpdir(), 'fang-prune-progress-'));
  const texts = values.text === undefined ? exampleTexts() : [values.text];
  // Processor time is a quiet machine's wall time where one thread does all.
  const threads = values.clock === 'processor' ? { threads: 1 } : {};
  const calibration = { windowCount: Number(values.windows), windowLength: Number(values['window-length']) };
  const prune = { model, sparsity: 0.3, report: false, resume: false, force: true, calibration, ...threads };
  const pruned = join(folder, 'pruned');
  const settings = { windowCount: Number(values['heal-windows']) };
  const { windowLength } = calibration;
  const runs: Record<string, readonly [string, object]> = {
    prune: ['prune', { ...prune, out: pruned }],
    q4: ['prune', { ...prune, dtype: 'q4', out: join(folder, 'q4') }],
    heal: [
      'heal',
      {
        dense: model,
        pruned,
        out: join(folder, 'healed'),
        heal: settings,
        calibration: { windowLength },
        resume: false,
        ...threads,
      },
    ],
    eval: [
      'evaluateModels',
      { models: [model, pruned], reference: model, texts, windowCount: Number(values.windows), ...threads },
    ],
  };
  const wanted = values.only.split(',');
  try {
    for (const [name, [call, request]] of Object.entries(runs)) {
      // Healing and evaluating need a pruned model.
      const isNeeded = name === 'prune' && wanted.some((other) => other === 'heal' || other === 'eval');
      if (!wanted.includes(name) && !isNeeded) continue;
      const run = runCall(call, request, values.clock);
      if (values.record !== undefined) writeFileSync(join(values.record, `${name}.json`), JSON.stringify(run));
      console.log(describe(name, run));
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const exampleTexts = (): string[] => {
  const folder = 'examples/models/tiny-llama/text';
  return readdirSync(folder).map((name) => join(folder, name));
};

function runCall(call: string, request: object, clock: string): FollowedRun {
  const script = join(import.meta.dirname, 'progress-run.mts');
  const args = ['--import', 'tsx', script, call, JSON.stringify(request), clock];
  return JSON.parse(
    execFileSync(process.execPath, args, { maxBuffer: 2 ** 30, stdio: ['ignore', 'pipe', 'inherit'] }).toString(),
  );
}

function describe(name: string, run: FollowedRun): string {
  const { left, total, shown } = deviationOf(run);
  const worst = worstOf(run);
  const at = worst && `${percent(worst.at / run.endMs)} of the run, ${worst.stage}`;
  return (
    `${name.padEnd(6)} ${(run.endMs / 1000).toFixed(1)} s: time left off by ${percent(left)} at most (at ${at}), whole time by ` +
    `${percent(total)}; shown for ${percent(shown)} of the time after the first tenth`
  );
}

const percent = (fraction: number): string => `${(100 * fraction).toFixed(0)} %`;

/** Steps whose remaining time is compared with the actual one. */
const judged = ({ told, endMs }: FollowedRun): Told[] =>
  told.filter(({ at, remainingMs }) => remainingMs !== undefined && at >= FIRST * endMs && endMs - at >= LAST * endMs);

const leftDeviation = ({ at, remainingMs }: Told, endMs: number): number => Math.abs(remainingMs! / (endMs - at) - 1);

function worstOf(run: FollowedRun): Told | undefined {
  return judged(run).toSorted((a, b) => leftDeviation(b, run.endMs) - leftDeviation(a, run.endMs))[0];
}

function deviationOf(run: FollowedRun): Deviation {
  const { told, endMs } = run;
  const worst = worstOf(run);
  const later = told.filter(({ at }) => at >= FIRST * endMs);
  const shownMs = later.reduce(
    (sum, { at, remainingMs }, index) => sum + (remainingMs === undefined ? 0 : (later[index + 1]?.at ?? endMs) - at),
    0,
  );
  return {
    left: worst === undefined ? Number.NaN : leftDeviation(worst, endMs),
    total: Math.max(...judged(run).map(({ at, remainingMs }) => Math.abs((at + remainingMs!) / endMs - 1))),
    shown: shownMs / ((1 - FIRST) * endMs),
  };
}
