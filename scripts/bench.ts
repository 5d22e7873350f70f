/**
 * Compares the time of whole pruning runs, or of writing the model in a dtype, with that of bare forward passes of the same windows through the same blocks (and,
 * next to it, through the entire model, with logits returned), and prints medians and the peak memory. Runs alternate, each in
 * a separate process. Calibration windows are not generated, which takes minutes. With several sparsities, every method runs as
 * a ladder, and then once per sparsity. `progress` compares the remaining time that runs show with the actual one, see
 * `bench/follow-progress.ts`.
 */
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { ModuleSelection } from '../src/options.js';
import type { BenchRun, BenchTask } from './bench/bench-task.js';
import { readArguments, refuse } from './read-arguments.js';

if (process.argv[2] === 'progress') {
  (await import('./bench/follow-progress.js')).followProgress();
  process.exit(0);
}

const USAGE =
  'npm run bench -- MODEL_FOLDER --text FILE [--methods flap,obc,o-fang] [--windows 16] [--window-length 512] ' +
  '[--modules ffn] [--sparsity 0.3 | 0.1,0.2,...] [--repeat 3]';
const { values, positionals } = readArguments(USAGE, {
  text: { type: 'string' },
  methods: { type: 'string', default: 'flap,obc,o-fang' },
  windows: { type: 'string', default: '16' },
  'window-length': { type: 'string', default: '512' },
  modules: { type: 'string', default: 'ffn' },
  sparsity: { type: 'string', default: '0.3' },
  repeat: { type: 'string', default: '3' },
});
const [model] = positionals;
if (model === undefined || values.text === undefined) refuse(USAGE, 'a model folder and --text are missing');
const methods = values.methods.split(',');
const sparsities = values.sparsity.split(',').map(Number);
const rounds = Array.from({ length: Number(values.repeat) });
if (sparsities.length === 1) compareWithBare();
else compareWithLadder();

function compareWithBare(): void {
  const runs = rounds.map(() =>
    Object.fromEntries(['bare', 'model', ...methods].map((method) => [method, runOnce(method, sparsities)])),
  );
  const over = (method: string, of: (run: BenchRun) => number, yardstick = 'bare') =>
    median(runs.map((run) => of(run[method]!) / run[yardstick]!.wallMs));
  const wallMs = (run: BenchRun) => run.wallMs;
  const wallSeconds = (method: string) => seconds(median(runs.map((run) => run[method]!.wallMs)));
  console.log(`bare forward passes: ${wallSeconds('bare')} (with LM head and logits: ${wallSeconds('model')})`);
  for (const method of methods) {
    const own = runs.map((run) => run[method]!);
    const processor = median(runs.map((run) => run[method]!.cpuMs / run.bare!.cpuMs));
    const peak = Math.max(...own.map(({ peakBytes }) => peakBytes));
    console.log(
      `${method}: ${over(method, wallMs).toFixed(2)} x bare (processor time of all ${processor.toFixed(2)} x; ` +
        `${over(method, wallMs, 'model').toFixed(2)} x the whole model), ${wallSeconds(method)}, peak ${(peak / 1e6).toFixed(0)} MB`,
    );
    for (const { stage } of own[0]!.stages) {
      const msOf = (run: BenchRun) => stageMs(run, stage);
      console.log(
        `  ${stage.padEnd(12)} ${seconds(median(own.map(msOf))).padStart(9)} ${over(method, msOf).toFixed(2)} x bare`,
      );
    }
  }
}

function compareWithLadder(): void {
  for (const method of methods) {
    const runs = rounds.map(() => {
      const ladder = runOnce(method, sparsities).wallMs;
      const alone = sparsities.map((sparsity) => runOnce(method, [sparsity]).wallMs);
      return { ladder, alone: alone.reduce((sum, ms) => sum + ms, 0) };
    });
    const of = (pick: (run: (typeof runs)[number]) => number) => median(runs.map(pick));
    console.log(
      `${method}: a ladder of ${sparsities.length} ${seconds(of(({ ladder }) => ladder))}, ${sparsities.length} runs ` +
        `${seconds(of(({ alone }) => alone))}: ${of(({ ladder, alone }) => ladder / alone).toFixed(2)} x`,
    );
  }
}

function stageMs({ stages }: BenchRun, stage: string): number {
  return stages.find((one) => one.stage === stage)?.ms ?? 0;
}

function runOnce(method: string, sparsity: readonly number[]): BenchRun {
  process.stderr.write(`${new Date().toLocaleTimeString()} ${method} ${sparsity.join(', ')}\n`);
  const task: BenchTask = {
    model: resolve(model!),
    method,
    options: { modules: values.modules as ModuleSelection },
    sparsity,
    calibration: {
      source: { file: resolve(values.text!) },
      windowCount: Number(values.windows),
      windowLength: Number(values['window-length']),
      generate: false,
    },
    workFolder: join(tmpdir(), `fang-prune-bench-${process.pid}`),
  };
  const printed = execFileSync('npx', ['tsx', 'scripts/bench/run-once.mts', JSON.stringify(task)], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return JSON.parse(printed) as BenchRun;
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
