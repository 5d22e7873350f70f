/**
 * Switches parts of `auto` one by one: the dense model is measured once, and each variant is pruned from there and evaluated on texts,
 * at each sparsity. --out keeps the models, in one folder each.
 * `--method flap --share 0 --variant own` gives another method next to it.
 * `--half 0` or `1` measures on every other window alone, to compare the shares kept of each block (`block:share`).
 * Windows begin with the tokens that the tokenizer puts before a text. Generated windows are saved in --windows-file.
 *
 *   npx tsx scripts/research/auto-parts.ts MODEL --calibration train.txt --text a.txt --text b.txt --variant global --variant uniform
 */
import { cpSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Allocation, type AllocationProblem, parametersOf } from '../../src/allocation/allocation.js';
import { global } from '../../src/allocation/global.js';
import { uniform } from '../../src/allocation/uniform.js';
import { nodePlatform, STAGES } from '../../src/node.js';
import { saveModel } from '../../src/onnx/save-model.js';
import { type MetricName, type PruneOptions, resolveCalibration, resolveOptions } from '../../src/options.js';
import { measureDense } from '../../src/prune/measure-dense/measure-dense.js';
import { pruneMeasured, pruneModel } from '../../src/prune/prune-model.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { requireTokenizer } from '../../src/storage/load-tokenizer.js';
import { openFolder } from '../../src/storage/open-folder.js';
import { readArguments, refuse } from '../read-arguments.js';
import { openLossMeter } from './loss-meter.js';
import { withDense } from './with-dense.js';

const USAGE =
  'npx tsx scripts/research/auto-parts.ts MODEL --text FILE... [--method auto] [--variant NAME]... [--calibration FILE] [--windows 8] [--length 256] ' +
  '[--share 0.5] [--windows-file FILE] [--sparsity 0.3]... [--metric NAME] [--dampening NUMBER] [--seed 0] [--text-windows 4] [--half 0|1] [--out FOLDER]';
const { values, positionals } = readArguments(USAGE, {
  text: { type: 'string', multiple: true },
  method: { type: 'string', default: 'auto' },
  variant: { type: 'string', multiple: true },
  calibration: { type: 'string' },
  windows: { type: 'string', default: '8' },
  length: { type: 'string', default: '256' },
  share: { type: 'string', default: '0.5' },
  'windows-file': { type: 'string' },
  sparsity: { type: 'string', multiple: true, default: ['0.3'] },
  metric: { type: 'string' },
  dampening: { type: 'string' },
  seed: { type: 'string', default: '0' },
  'text-windows': { type: 'string', default: '4' },
  half: { type: 'string' },
  out: { type: 'string' },
});

/** The threshold's sparsities, so far toward an even spread. */
const toward = (share: number): Allocation => ({
  ...global,
  allocate(problem: AllocationProblem) {
    const own = Array.from(global.allocate(problem));
    const total = parametersOf(problem.modules);
    const even = own.reduce((sum, value, at) => sum + value * problem.modules[at]!.parameterCount, 0) / total;
    return own.map((value) => (1 - share) * value + share * even);
  },
});

/** What differs from `auto`. */
const VARIANTS: Readonly<Record<string, Partial<PruneOptions>>> = {
  own: {},
  compared: { allocation: 'compared' },
  global: { allocation: 'global' },
  quarter: { allocation: toward(0.25) },
  half: { allocation: toward(0.5) },
  even: { allocation: toward(1) },
  uniform: { allocation: uniform },
  'no-input-steps': { inputSteps: 0 },
  'two-shots': { shots: 2 },
  'uniform-no-input-steps': { allocation: uniform, inputSteps: 0 },
};

const [model] = positionals;
const { text: texts = [], variant: names = ['compared', 'global', 'half', 'even', 'uniform'] } = values;
if (model === undefined || texts.length === 0) refuse(USAGE, 'a model folder and a text are missing');
const stray = names.find((name) => VARIANTS[name] === undefined);
if (stray !== undefined) refuse(USAGE, `no variant ${stray}; there are ${Object.keys(VARIANTS).join(', ')}`);
const [windowCount, windowLength] = [Number(values.windows), Number(values.length)];
const started = process.cpuUsage();
const say = (message: string) => {
  const { user, system } = process.cpuUsage(started);
  process.stdout.write(
    `${message}  [${Math.round((user + system) / 1e6)} CPU-s, ${Math.round(process.resourceUsage().maxRSS / 1024)} MB]\n`,
  );
};

await withDense(model!, async ({ context, engine, folder, dense, analysed }) => {
  const tokenizer = await requireTokenizer(folder, 'a text');
  const share = Number(values.share);
  const { windows: all } = await STAGES.calibrate.run(context, {
    folder,
    model: dense,
    engine,
    seed: Number(values.seed),
    vocabularySize: analysed.detected.layout.vocabularySize,
    calibration: resolveCalibration({
      windowCount,
      windowLength,
      ...(values.calibration !== undefined && { source: { file: values.calibration } }),
      generate: share > 0 && { share, ...(values['windows-file'] && { file: values['windows-file'] }) },
    }),
  });
  const windows = values.half === undefined ? all : all.filter((_, at) => at % 2 === Number(values.half));
  say(`${windows.length} windows of ${all.length}`);
  const textWindows = Number(values['text-windows']);
  const evaluate = await openLossMeter({ engine, tokenizer, texts, windowLength, windowCount: textWindows });
  const options = (sparsity: string, changes: Partial<PruneOptions> = {}) =>
    resolveOptions({
      sparsity: Number(sparsity),
      modules: 'ffn',
      method: values.method!,
      seed: Number(values.seed),
      ...(values.metric !== undefined && { metric: values.metric as MetricName }),
      ...(values.dampening !== undefined && { dampening: Number(values.dampening) }),
      ...changes,
    });
  const before = await evaluate({ model: dense, analysed });
  say(`dense: ${before.map((loss) => loss.toFixed(3)).join(' ')}`);
  const job = {
    model: dense,
    analysed,
    engine,
    windows,
    options: options(values.sparsity[0]!),
    store: storeInMemory,
    createStore: () => createMemoryStore(),
  };
  const measured = await measureDense(job);
  say('measured');
  for (const sparsity of values.sparsity) {
    for (const name of names) {
      const variant = options(sparsity, VARIANTS[name]!);
      const variantJob = { ...job, options: variant };
      const outcome =
        variant.shots > 1 ? await pruneModel(variantJob) : await pruneMeasured({ ...measured, job: variantJob });
      const widths = outcome.modules.map(
        ({ keep, module }) => `${module.block}:${(keep.length / module.unitCount).toFixed(2)}`,
      );
      for (const remark of outcome.remarks) say(remark);
      const after = await evaluate({ model: outcome.model, analysed });
      const rises = after.map((loss, at) => loss - before[at]!);
      say(`${name} at ${sparsity}: ${rises.map((rise) => rise.toFixed(3)).join(' ')}  kept ${widths.join(' ')}`);
      if (values.out === undefined) continue;
      const out = join(values.out, `${values.method}-${name}-${sparsity}`);
      cpSync(model!, out, { recursive: true, filter: (path) => !/\.onnx(_data)?$/.test(path) });
      await saveModel(outcome.model, openFolder(nodePlatform.files, resolve(out)), folder.modelFile);
    }
  }
  await measured.dispose();
});
