/**
 * Compares the estimated and the measured cost of mixtures of removal and rounding. The dense model is measured and two sizes are
 * chosen, as in `shrink`; then random mixtures are predicted and measured: each linear layer gets random bits and blocks, and a random
 * share of the units is removed. With --alone BITS single linear layers are measured instead: one in BITS bits, all others in 8.
 *
 *   npx tsx scripts/research/mixture-costs.ts MODEL [--text calibration.txt] [--windows 16] [--length 128] [--count 10] [--seed 0] [--alone 2]
 */
import { allocateSteps } from '../../src/allocation/allocate-steps.js';
import { global } from '../../src/allocation/global.js';
import { createRandom } from '../../src/linalg/random.js';
import { STAGES } from '../../src/node.js';
import { resolveQuantisation } from '../../src/options/quantisation.js';
import { resolveCalibration, resolveOptions } from '../../src/options.js';
import { fitCostModel } from '../../src/prune/cost-model.js';
import { splitDraftWindows } from '../../src/prune/drafts.js';
import { measureDense } from '../../src/prune/measure-dense/measure-dense.js';
import { createDraftMeter } from '../../src/prune/measure-draft.js';
import {
  type Bits,
  describeMixture,
  formsIn,
  type Mixture,
  type SizeProblem,
  uniformMixture,
} from '../../src/prune/mixtures.js';
import { createSizeSearch } from '../../src/prune/search-size.js';
import { sizeProblemOf } from '../../src/prune/size-problem.js';
import { DTYPES } from '../../src/quantisation/dtypes.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { readArguments, refuse } from '../read-arguments.js';
import { withDense } from './with-dense.js';

const USAGE =
  'npx tsx scripts/research/mixture-costs.ts MODEL [--text FILE] [--windows 16] [--length 128] [--count 10] [--seed 0] [--alone BITS]';
const { values, positionals } = readArguments(USAGE, {
  text: { type: 'string' },
  windows: { type: 'string', default: '16' },
  length: { type: 'string', default: '128' },
  count: { type: 'string', default: '10' },
  seed: { type: 'string', default: '0' },
  alone: { type: 'string' },
});
const [model] = positionals;
const { text } = values;
if (model === undefined) refuse(USAGE, 'a model folder is missing');

const BITS: readonly Bits[] = [8, 4, 2];
/** Four bits are drawn twice as often as the others. */
const DRAWN: readonly Bits[] = [8, 4, 4, 2];
/** Sizes of the first measurements, by the size in four bits. */
const SIZES = [0.85, 0.7];
const MAX_REMOVED = 0.5;

type DraftMeter = ReturnType<typeof createDraftMeter>;

await withDense(model!, async ({ context, engine, folder, dense, analysed }) => {
  const [windowCount, windowLength] = [Number(values.windows), Number(values.length)];
  const { windows } = await STAGES.calibrate.run(context, {
    folder,
    model: dense,
    engine,
    seed: Number(values.seed),
    vocabularySize: analysed.detected.layout.vocabularySize,
    calibration: resolveCalibration({
      windowCount,
      windowLength,
      ...(text !== undefined && { source: { file: text } }),
    }),
  });
  const options = resolveOptions({ sparsity: 0.5, seed: Number(values.seed) });
  const store = storeInMemory;
  const job = { model: dense, analysed, engine, windows, options, store, createStore: () => createMemoryStore() };
  const measured = await measureDense(job);
  const form = { ...resolveQuantisation({ dtype: 'q2' }), dtype: DTYPES.q2 };
  const { modules } = measured;
  const meter = createDraftMeter({
    measured,
    form,
    withStore: (action) => action(storeInMemory),
    ...splitDraftWindows(windows),
  });
  const unpriced = sizeProblemOf({
    model: dense,
    analysed,
    options,
    modules,
    dense: measured.dense,
    form,
    bits: BITS,
    cachedBytes: 0,
    windowLength,
  });
  if (values.alone !== undefined) await measureAlone(unpriced, meter, Number(values.alone) as Bits);
  else await measureMixtures(unpriced, meter);
  await measured.dispose();
});

/** Compares estimates of single linear layers, which have an arbitrary unit, with the measured cost of rounding each. */
async function measureAlone(problem: SizeProblem, meter: DraftMeter, bits: Bits): Promise<void> {
  const [least, all] = [await meter(uniformMixture(problem, 8)), await meter(uniformMixture(problem, bits))];
  process.stdout.write(`all in ${bits} bits: ${(all.quantising - least.quantising).toFixed(4)}\n`);
  process.stdout.write('| linear layer | estimate | measured |\n| --- | --- | --- |\n');
  const random = createRandom(Number(values.seed) + 1);
  const drawn = [...all.roundingCosts].map((cost) => ({ cost, key: random() })).sort((a, b) => a.key - b.key);
  for (const { cost } of drawn.slice(0, Number(values.count))) {
    const [name, estimate] = cost;
    const forms = problem.weights.map(
      (map) => map.forms.find(({ grid }) => grid?.bits === (map.name === name ? bits : 8)) ?? map.forms[0]!,
    );
    const { quantising } = await meter(describeMixture(problem, forms, new Map()));
    process.stdout.write(
      `| ${name} | ${estimate.toExponential(2)} | ${(quantising - least.quantising).toFixed(5)} |\n`,
    );
  }
}

async function measureMixtures(unpriced: SizeProblem, meter: DraftMeter): Promise<void> {
  const search = await createSizeSearch({
    problem: unpriced,
    bits: BITS,
    bytesOf: async (mixture) => (mixture as Mixture).bytes,
    measure: meter,
    journal: undefined,
    onDraft: () => {},
  });
  const { problem } = search;
  const four = uniformMixture(problem, 4).bytes;
  const known = [];
  for (const size of SIZES) known.push(...(await search.choose(size * four)).candidates);
  const { predict } = fitCostModel([...new Set(known)]);
  const random = createRandom(Number(values.seed) + 1);
  process.stdout.write(
    '| weights in q8, q4, q2 | removed | removal: predicted | measured | rounding: predicted | measured | all: predicted / measured |\n',
  );
  process.stdout.write('| --- | --- | --- | --- | --- | --- | --- |\n');
  for (let at = 0; at < Number(values.count); at += 1) {
    const forms = problem.weights.map((map) => {
      const bits = DRAWN[Math.floor(random() * DRAWN.length)]!;
      const forms = formsIn(map, bits);
      return forms[Math.floor(random() * forms.length)]!;
    });
    const steps = allocateSteps(global, {
      sparsity: random() * MAX_REMOVED,
      modules: problem.modules,
      evenHeads: problem.evenHeads,
    });
    const counts = new Map(problem.modules.map(({ index }, module) => [index, steps[module]!]));
    const mixture = describeMixture(problem, forms, counts);
    const [expected, found] = [predict(mixture.estimate), await meter(mixture)];
    const counted = BITS.map((bits) => [...mixture.grids.values()].filter((own) => own.bits === bits).length).join(
      ', ',
    );
    const ratio = (expected.pruning + expected.quantising) / (found.pruning + found.quantising);
    const figures = [expected.pruning, found.pruning, expected.quantising, found.quantising].map((value) =>
      value.toFixed(4),
    );
    const removed = `${(100 * mixture.sparsity).toFixed(0)} %`;
    process.stdout.write(`| ${[counted, removed, ...figures, ratio.toFixed(2)].join(' | ')} |\n`);
  }
}
