import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createColors } from 'picocolors';
import { formatHealed } from '../../src/cli/heal.js';
import { formatPruneReport } from '../../src/cli/prune.js';
import type { Random } from '../../src/linalg/random.js';
import {
  applyRecipe,
  describe,
  evaluateModels,
  evaluateTasks,
  heal,
  observe,
  perplexity,
  prune,
  quantize,
  rebuildReport,
} from '../../src/node.js';
import { runPrune } from '../../src/pipeline/calls.js';
import { nodePlatform } from '../../src/platform/node/node-platform.js';
import type { Platform } from '../../src/platform/platform.js';
import type { JobControl } from '../../src/progress.js';
import { eagerPlatform } from '../../test/support/eager-platform.js';
import { drawOne, type Mutant, mutateBytes } from './mutate-bytes.js';
import { mutateJson } from './mutate-json.js';
import { mutateModel } from './mutate-model.js';

/** Folders in the folder that a trial works in. */
export const MODEL = 'model';
export const TASKS = 'tasks.jsonl';
const [STATISTICS, RECIPE, PRUNED, MEASURED] = ['statistics', 'recipe', 'pruned', 'measured.json'] as const;
const [QUANTISED, HEALED, CUT] = ['quantised', 'healed', 'cut'] as const;

/** What is changed, and who reads it. */
export interface Kind {
  /** Files that one is drawn of, relative to the folder of the trial. */
  readonly files: (folder: string) => readonly string[];
  readonly mutate: (content: Uint8Array, random: Random) => Mutant<Uint8Array>;
  /** Reads it. @param folder holds all files, one of them changed */
  readonly run: (folder: string, random: Random) => Promise<unknown>;
}

/** Letters, digits, signs of several scripts, and what tokenizers take for their own. */
export const TEXT = `${'Once upon a time a girl had 3 cats, 12 dogs and ½ of a cake. '.repeat(20)}Ünïcödé 中文 😀 <s></s>\u0000`;

const CALIBRATION = { windowCount: 2, windowLength: 16, source: { text: TEXT } } as const;

const pruneIn = (folder: string, more: object = {}) =>
  prune({
    model: join(folder, MODEL),
    out: join(folder, 'out'),
    sparsity: 0.3,
    method: 'flap',
    calibration: CALIBRATION,
    ...more,
  });

/** A run that is aborted half way when a subject is prepared. */
const pruneCut = (folder: string, control: JobControl = {}, platform: Platform = nodePlatform) =>
  runPrune(platform, {
    ...control,
    ...{ model: join(folder, MODEL), out: join(folder, CUT), sparsity: 0.3, method: 'o-fang', certify: false },
    calibration: CALIBRATION,
  });

const quantiseIn = (folder: string) =>
  quantize({ model: join(folder, MODEL), out: join(folder, QUANTISED), dtype: 'q4', calibration: CALIBRATION });

const healIn = (folder: string, more: object = {}) =>
  heal({
    dense: join(folder, MODEL),
    pruned: join(folder, PRUNED),
    out: join(folder, HEALED),
    settings: { windowCount: 2, textShare: 1 },
    calibration: { windowLength: 16, source: { text: TEXT } },
    certify: false,
    ...more,
  });

const PLAIN = createColors(false);

const asText =
  (mutate: (text: string, random: Random) => Mutant<Uint8Array>) => (content: Uint8Array, random: Random) =>
    mutate(new TextDecoder().decode(content), random);

/** A file of JSON as such, one of tensors as bytes. */
const mutateEither = (content: Uint8Array, random: Random): Mutant<Uint8Array> =>
  content[0] === '{'.charCodeAt(0) ? asText(mutateJson)(content, random) : mutateBytes(content, random);

const filesIn =
  (inner: string, pattern: RegExp) =>
  (folder: string): readonly string[] =>
    existsSync(join(folder, inner))
      ? readdirSync(join(folder, inner), { recursive: true, encoding: 'utf8' })
          .filter((name) => pattern.test(name))
          .map((name) => join(inner, name))
      : [];

/** One in so many models that can be described is pruned too. */
const PRUNED_SHARE = 0.25;

export const KINDS: Readonly<Record<string, Kind>> = {
  model: {
    files: filesIn(MODEL, /\.onnx$/),
    mutate: (content, random) => (random() < 0.3 ? mutateBytes(content, random) : mutateModel(content, random)),
    async run(folder, random) {
      await describe({ model: join(folder, MODEL) });
      if (random() >= PRUNED_SHARE) return;
      await pruneIn(folder, { method: drawOne(random, ['flap', 'o-fang', 'auto']) });
    },
  },
  weights: {
    files: filesIn(MODEL, /\.data$/),
    mutate: mutateBytes,
    run: (folder, random) => pruneIn(folder, { method: drawOne(random, ['flap', 'o-fang', 'obc']) }),
  },
  document: {
    files: filesIn(MODEL, /config\.json$/),
    mutate: asText(mutateJson),
    run: (folder) => pruneIn(folder),
  },
  tokenizer: {
    files: filesIn(MODEL, /^tokenizer.*\.json$/),
    mutate: asText(mutateJson),
    run: (folder) => perplexity({ model: join(folder, MODEL), text: TEXT, windowCount: 1, windowLength: 16 }),
  },
  statistics: {
    files: filesIn(STATISTICS, /^statistics\./),
    mutate: mutateEither,
    run: (folder) =>
      pruneIn(folder, { statistics: join(folder, STATISTICS), calibration: undefined, dryRun: true, report: false }),
  },
  recipe: {
    files: filesIn(RECIPE, /^recipe\./),
    mutate: mutateEither,
    run: (folder) =>
      applyRecipe({ model: join(folder, MODEL), recipe: join(folder, RECIPE), out: join(folder, 'out') }),
  },
  quantised: {
    files: filesIn(QUANTISED, /\.onnx$/),
    mutate: (content, random) => (random() < 0.2 ? mutateBytes(content, random) : mutateModel(content, random)),
    async run(folder, random) {
      await describe({ model: join(folder, QUANTISED) });
      if (random() >= PRUNED_SHARE) return;
      await pruneIn(folder, { model: join(folder, QUANTISED), method: drawOne(random, ['flap', 'o-fang']) });
    },
  },
  pruned: {
    files: filesIn(PRUNED, /\.onnx$/),
    mutate: (content, random) => (random() < 0.2 ? mutateBytes(content, random) : mutateModel(content, random)),
    run: (folder) => healIn(folder, { out: join(folder, 'out') }),
  },
  finished: {
    files: filesIn(HEALED, /^fang-prune-(healing|files)\.json$/),
    mutate: asText(mutateJson),
    run: async (folder) => formatHealed(await healIn(folder), PLAIN),
  },
  'finished result': {
    files: filesIn(PRUNED, /^fang-prune-(report|files)\.json$/),
    mutate: asText(mutateJson),
    run: async (folder) => formatPruneReport(await pruneIn(folder, { out: join(folder, PRUNED) }), PLAIN),
  },
  workspace: {
    files: filesIn(`${CUT}.partial`, /^(run\.json|.*\.entry)$/),
    mutate: mutateEither,
    run: (folder) => pruneCut(folder),
  },
  report: {
    files: filesIn(PRUNED, /^fang-prune-report\.json$/),
    mutate: asText(mutateJson),
    run: (folder) => rebuildReport({ report: join(folder, PRUNED), out: join(folder, 'report.json') }),
  },
  measured: {
    files: (folder) => [MEASURED].filter((name) => existsSync(join(folder, name))),
    mutate: asText(mutateJson),
    run: (folder) =>
      rebuildReport({ report: join(folder, PRUNED), add: [join(folder, MEASURED)], out: join(folder, 'report.json') }),
  },
  task: {
    files: () => [TASKS],
    mutate: asText((text, random) => {
      const [first = '', ...others] = text.split('\n');
      const { value, what } = mutateJson(first, random);
      return { value: Buffer.concat([value, Buffer.from(`\n${others.join('\n')}`)]), what };
    }),
    run: (folder) => evaluateTasks({ model: join(folder, MODEL), file: join(folder, TASKS) }),
  },
};

/** Items of a task, for a model that knows nothing. */
export const TASK_LINES = [0, 1]
  .map((gold) => JSON.stringify({ query: 'Once upon', choices: [' a time', ' 3 cats'], gold }))
  .join('\n');

/** Writes what is made of a sound model, as far as it can be made. */
export async function prepareSubject(folder: string): Promise<void> {
  const models = [MODEL, PRUNED].map((name) => join(folder, name));
  const making = [
    () => pruneIn(folder, { out: join(folder, PRUNED), recipe: join(folder, RECIPE) }),
    () =>
      observe({
        model: join(folder, MODEL),
        out: join(folder, STATISTICS),
        method: 'flap',
        calibration: CALIBRATION,
      }),
    async () => {
      const measured = { models: await evaluateModels({ models, tasks: [join(folder, TASKS)] }), comparisons: [] };
      writeFileSync(join(folder, MEASURED), JSON.stringify(measured));
    },
    () => quantiseIn(folder),
    () => healIn(folder),
    () => cutOff(folder),
  ];
  for (const make of making) {
    try {
      await make();
    } catch (error) {
      if (!(error instanceof Error && ('code' in error || error.name === 'AbortError'))) throw error;
    }
  }
}

/** Leaves the workspace of a run that kept all it could until it was aborted. */
async function cutOff(folder: string): Promise<unknown> {
  const abortion = new AbortController();
  const control: JobControl = {
    signal: abortion.signal,
    onProgress({ stage, done, total = 0 }) {
      if (stage === 'prune' && done > 0.7 * total) abortion.abort();
    },
  };
  return pruneCut(folder, control, eagerPlatform(nodePlatform));
}
