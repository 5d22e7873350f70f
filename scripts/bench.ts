/**
 * Compares the time of whole pruning runs with that of bare forward passes of the same windows through the same blocks (and,
 * beside it, through the whole model, logits handed out), and tells the peak memory. All take turns, each in a process of
 * its own; medians are printed.
 *
 *   npm run bench -- MODEL_FOLDER --text FILE [--methods flap,obc,o-fang] [--windows 16] [--window-length 512]
 *     [--modules ffn] [--repeat 3]
 */
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { ModuleSelection } from '../src/options.js';
import type { BenchRun, BenchTask } from './bench/bench-task.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    text: { type: 'string' },
    methods: { type: 'string', default: 'flap,obc,o-fang' },
    windows: { type: 'string', default: '16' },
    'window-length': { type: 'string', default: '512' },
    modules: { type: 'string', default: 'ffn' },
    sparsity: { type: 'string', default: '0.3' },
    repeat: { type: 'string', default: '3' },
  },
});
const [model] = positionals;
if (model === undefined || values.text === undefined) {
  throw new Error('usage: npm run bench -- MODEL_FOLDER --text FILE [--methods LIST] [--windows N] [--repeat N]');
}
const methods = values.methods.split(',');
const runs: Record<string, BenchRun>[] = [];
for (let round = 0; round < Number(values.repeat); round += 1) {
  runs.push(Object.fromEntries(['bare', 'model', ...methods].map((method) => [method, runOnce(method)])));
}
const over = (method: string, of: (run: BenchRun) => number, yardstick = 'bare') =>
  median(runs.map((run) => of(run[method]!) / run[yardstick]!.wallMs));
const wallOf = ({ wallMs }: BenchRun) => wallMs;
const wallSeconds = (method: string) => seconds(median(runs.map((run) => wallOf(run[method]!))));
console.log(`bare forward passes: ${wallSeconds('bare')} (with LM head and logits: ${wallSeconds('model')})`);
for (const method of methods) {
  const own = runs.map((run) => run[method]!);
  const processor = median(runs.map((run) => run[method]!.cpuMs / run.bare!.cpuMs));
  const peak = Math.max(...own.map(({ peakBytes }) => peakBytes));
  console.log(
    `${method}: ${over(method, wallOf).toFixed(2)} x bare (processor time ${processor.toFixed(2)} x; ` +
      `${over(method, wallOf, 'model').toFixed(2)} x the whole model), ${wallSeconds(method)}, peak ${(peak / 1e6).toFixed(0)} MB`,
  );
  for (const { stage } of own[0]!.stages) {
    const msOf = ({ stages }: BenchRun) => stages.find((one) => one.stage === stage)?.ms ?? 0;
    console.log(
      `  ${stage.padEnd(12)} ${seconds(median(own.map(msOf))).padStart(9)} ${over(method, msOf).toFixed(2)} x bare`,
    );
  }
}

function runOnce(method: string): BenchRun {
  process.stderr.write(`${new Date().toLocaleTimeString()} ${method}\n`);
  const task: BenchTask = {
    model: resolve(model!),
    method,
    options: { sparsity: Number(values.sparsity), modules: values.modules as ModuleSelection },
    calibration: {
      source: { file: resolve(values.text!) },
      windowCount: Number(values.windows),
      windowLength: Number(values['window-length']),
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
