/**
 * Writes the REAP scores of every mixture, the experts that `reap` removes, and the calibration windows; expert-reap.py compares
 * them with those of llm-compressor.
 *
 *   npx tsx scripts/research/expert-reap.ts MODEL --calibration train.txt --experts 12 --out reap.json
 */
import { writeFileSync } from 'node:fs';
import { EXPERT_SCORES, type ExpertScoreRow } from '../../src/importance/expert-scores.js';
import { STAGES } from '../../src/node.js';
import { resolveCalibration, resolveOptions } from '../../src/options.js';
import { pruneModel } from '../../src/prune/prune-model.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { readArguments, refuse } from '../read-arguments.js';
import { withDense } from './with-dense.js';

const USAGE =
  'npx tsx scripts/research/expert-reap.ts MODEL --calibration FILE --experts COUNT --out FILE [--windows 64] [--length 128]';
const { values, positionals } = readArguments(USAGE, {
  calibration: { type: 'string' },
  experts: { type: 'string' },
  out: { type: 'string' },
  windows: { type: 'string', default: '64' },
  length: { type: 'string', default: '128' },
});
const [model] = positionals;
const { calibration, experts, out } = values;
if (model === undefined || calibration === undefined || experts === undefined || out === undefined)
  refuse(USAGE, 'a model folder, a calibration text, a number of experts or a file to write is missing');

await withDense(model!, async ({ context, engine, folder, dense, analysed }) => {
  const { windows } = await STAGES.calibrate.run(context, {
    folder,
    model: dense,
    engine,
    seed: 0,
    vocabularySize: analysed.detected.layout.vocabularySize,
    calibration: resolveCalibration({
      windowCount: Number(values.windows),
      windowLength: Number(values.length),
      source: { file: calibration! },
      generate: false,
    }),
  });
  // Each mixture is scored once.
  const scored: Float64Array[] = [];
  const row = EXPERT_SCORES.reap as { score: ExpertScoreRow['score'] };
  const { score } = row;
  row.score = (statistics) => {
    const found = score(statistics);
    scored.push(found);
    return found;
  };
  const outcome = await pruneModel({
    model: dense,
    analysed,
    engine,
    windows,
    store: storeInMemory,
    createStore: () => createMemoryStore(),
    options: resolveOptions({
      modules: 'experts',
      seed: 0,
      sparsity: 0,
      method: 'flap',
      experts: Number(experts),
      expertScore: 'reap',
    }),
  });
  const mixtures = outcome.modules.map(({ module, keep }, at) => ({
    block: module.block,
    scores: [...scored[at]!],
    removed: [...scored[at]!.keys()].filter((expert) => !keep.includes(expert)),
  }));
  writeFileSync(out!, JSON.stringify({ windows: windows.map((window) => [...window]), mixtures }));
});
