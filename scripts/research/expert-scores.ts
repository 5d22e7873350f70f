/**
 * Removes part of the experts of every mixture by each score, or by those named, and measures how much each text's loss rises. `removal` is this library's default;
 * with `--threshold` it also spreads the same sparsity by one threshold over all mixtures, of whole experts, and also of neurons
 * inside the remaining ones. With `--all-experts` experts run on all tokens.
 *
 *   npx tsx scripts/research/expert-scores.ts MODEL --calibration train.txt --text a.txt --text b.txt --experts 12 --experts 8
 */
import { STAGES } from '../../src/node.js';
import { type PruneOptions, resolveCalibration, resolveOptions } from '../../src/options.js';
import { pruneModel } from '../../src/prune/prune-model.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { requireTokenizer } from '../../src/storage/load-tokenizer.js';
import { readArguments, refuse } from '../read-arguments.js';
import { openLossMeter } from './loss-meter.js';
import { withDense } from './with-dense.js';

const USAGE =
  'npx tsx scripts/research/expert-scores.ts MODEL --calibration FILE --text FILE... --experts COUNT... [--score NAME...] [--threshold] [--all-experts] ' +
  '[--windows 64] [--length 128] [--text-windows 16]';
const { values, positionals } = readArguments(USAGE, {
  text: { type: 'string', multiple: true },
  experts: { type: 'string', multiple: true },
  calibration: { type: 'string' },
  score: { type: 'string', multiple: true },
  threshold: { type: 'boolean', default: false },
  'all-experts': { type: 'boolean', default: false },
  windows: { type: 'string', default: '64' },
  length: { type: 'string', default: '128' },
  'text-windows': { type: 'string', default: '16' },
});

const [model] = positionals;
const { text: texts = [], experts: counts = [], calibration, score: scores } = values;
if (model === undefined || texts.length === 0 || counts.length === 0 || calibration === undefined)
  refuse(USAGE, 'a model folder, a calibration text, a text to measure on or a number of experts is missing');
const [windowCount, windowLength] = [Number(values.windows), Number(values.length)];
const say = (message: string) => process.stdout.write(`${message}\n`);

await withDense(model!, async ({ context, engine, folder, dense, analysed }) => {
  const tokenizer = await requireTokenizer(folder, 'a text');
  const { windows } = await STAGES.calibrate.run(context, {
    folder,
    model: dense,
    engine,
    seed: 0,
    vocabularySize: analysed.detected.layout.vocabularySize,
    calibration: resolveCalibration({ windowCount, windowLength, source: { file: calibration! }, generate: false }),
  });
  const textWindows = Number(values['text-windows']);
  const evaluate = await openLossMeter({ engine, tokenizer, texts, windowLength, windowCount: textWindows });
  const before = await evaluate({ model: dense, analysed });
  say(`dense: ${before.map((loss) => loss.toFixed(3)).join(' ')}`);
  const mixtures = analysed.detected.layout.modules.filter(({ kind }) => kind === 'experts');
  const [{ unitCount = 1 } = {}] = mixtures;
  for (const experts of counts.map(Number)) {
    const cheap = { method: 'flap', experts, sparsity: 0 } as const;
    const runs: readonly (readonly [string, Partial<PruneOptions> & Pick<PruneOptions, 'sparsity'>])[] = [
      ['removal', { method: 'auto', experts, sparsity: 0 }],
      ...(values.threshold
        ? ([
            ['removal, one threshold', { method: 'auto', sparsity: 1 - experts / unitCount, minimumWidth: 1 }],
            ['the same with neurons inside', { method: 'auto', sparsity: 1 - experts / unitCount }],
          ] as const)
        : []),
      ...(['reap', 'man', 'msan', 'frequency'] as const).map(
        (expertScore) => [expertScore, { ...cheap, expertScore }] as const,
      ),
    ];
    for (const [name, changes] of runs.filter(([name]) => scores?.includes(name) ?? true)) {
      const outcome = await pruneModel({
        model: dense,
        analysed,
        engine,
        windows,
        store: storeInMemory,
        createStore: () => createMemoryStore(),
        options: resolveOptions({ modules: 'experts', seed: 0, allExperts: values['all-experts'], ...changes }),
      });
      const after = await evaluate({ model: outcome.model, analysed });
      const rises = after.map((loss, at) => loss - before[at]!);
      const mean = rises.reduce((sum, rise) => sum + rise, 0) / rises.length;
      const kept = outcome.modules
        .map(({ keep, neurons }) => `${keep.length}${neurons ? `x${neurons.length / keep.length}` : ''}`)
        .join(' ');
      say(
        `${experts} ${name}: mean ${mean.toFixed(4)} of ${rises.map((rise) => rise.toFixed(3)).join(' ')}  kept ${kept}`,
      );
    }
  }
});
