import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createColors } from 'picocolors';
import { formatHealed } from '../../src/cli/heal.js';
import { formatPruneReport } from '../../src/cli/prune.js';
import type { Random } from '../../src/linalg/random.js';
import { describe, perplexity, rebuildReport } from '../../src/node.js';
import {
  applyIn,
  compareIn,
  evaluateIn,
  generateIn,
  healIn,
  MODEL,
  measureTasksIn,
  PLACES,
  pruneIn,
  resumeRuns,
  TASKS,
  TEXT,
} from './calls.js';
import { drawOne, type Mutant, mutateBytes } from './mutate-bytes.js';
import { mutateEntry } from './mutate-entry.js';
import { mutateExternal } from './mutate-external.js';
import { mutateModel } from './mutate-model.js';
import { mutateRecipe } from './mutate-recipe.js';
import { mutateTensors } from './mutate-tensors.js';
import { mutateDocument, mutateLines, mutateText } from './mutate-text.js';
import type { Part } from './prepare-subject.js';

/** A file that is changed. */
export interface Place {
  /** Folder of the valid model and the files derived from it. */
  readonly subject: string;
  /** Relative to that folder, like the following paths. */
  readonly file: string;
  /** Files that it was drawn from. */
  readonly files: readonly string[];
}

/** A kind of file, its mutation, and the calls that read it. */
export interface Kind {
  /** Parts of a subject that it needs. */
  readonly needs?: Part;
  /** Files from which one is drawn, relative to the folder of the trial. */
  readonly files: (folder: string) => readonly string[];
  readonly mutate: (content: Uint8Array, random: Random, place: Place) => Mutant<Uint8Array>;
  /** Reads it, and checks the result. @param folder with all files, one of them changed @throws WrongResult */
  readonly run: (folder: string, random: Random) => Promise<unknown>;
}

const PLAIN = createColors(false);

const filesIn =
  (inner: string, pattern: RegExp) =>
  (folder: string): readonly string[] =>
    existsSync(join(folder, inner))
      ? readdirSync(join(folder, inner), { recursive: true, encoding: 'utf8' })
          .filter((name) => pattern.test(name))
          .map((name) => join(inner, name))
      : [];

const fileAt =
  (...names: readonly string[]) =>
  (folder: string): readonly string[] =>
    names.filter((name) => existsSync(join(folder, name)));

const ofShare =
  (share: number, [often, seldom]: readonly [Kind['mutate'], Kind['mutate']]): Kind['mutate'] =>
  (content, random, place) =>
    (random() < share ? seldom : often)(content, random, place);

/** One in so many models that can be described is pruned too. */
const PRUNED_SHARE = 0.25;

const model: Kind['mutate'] = ofShare(0.3, [mutateModel, mutateBytes]);

const byName =
  (rows: Readonly<Record<string, Kind['mutate']>>): Kind['mutate'] =>
  (content, random, place) =>
    rows[place.file.slice(place.file.lastIndexOf('.'))]!(content, random, place);

export const KINDS: Readonly<Record<string, Kind>> = {
  models: {
    files: filesIn(MODEL, /\.onnx$/),
    mutate: model,
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
  external: {
    files: filesIn(MODEL, /\.onnx$/),
    mutate: mutateExternal,
    async run(folder, random) {
      await describe({ model: join(folder, MODEL) });
      if (random() < 0.5)
        await perplexity({ model: join(folder, MODEL), content: TEXT, windowCount: 1, windowLength: 16 });
    },
  },
  configs: {
    files: filesIn(MODEL, /config\.json$/),
    mutate: mutateDocument,
    run: (folder) => pruneIn(folder),
  },
  tokenizers: {
    files: filesIn(MODEL, /^tokenizer.*\.json$/),
    mutate: mutateDocument,
    run: (folder) => perplexity({ model: join(folder, MODEL), content: TEXT, windowCount: 1, windowLength: 16 }),
  },
  statistics: {
    needs: 'statistics',
    files: filesIn(PLACES.statistics, /^statistics\./),
    mutate: byName({ '.json': mutateDocument, '.safetensors': mutateTensors }),
    run: (folder, random) =>
      pruneIn(folder, {
        statistics: join(folder, PLACES.statistics),
        method: drawOne(random, ['flap', 'flap', 'o-fang', 'obc']),
        calibration: undefined,
        dryRun: true,
        report: false,
      }),
  },
  recipes: {
    needs: 'pruned',
    files: filesIn(PLACES.recipe, /^recipe\./),
    mutate: byName({ '.json': mutateRecipe, '.safetensors': mutateTensors }),
    run: applyIn,
  },
  quantised: {
    needs: 'quantised',
    files: filesIn(PLACES.quantised, /\.onnx$/),
    mutate: model,
    async run(folder, random) {
      await describe({ model: join(folder, PLACES.quantised) });
      if (random() >= PRUNED_SHARE) return;
      await pruneIn(folder, { model: join(folder, PLACES.quantised), method: drawOne(random, ['flap', 'o-fang']) });
    },
  },
  pruned: {
    needs: 'pruned',
    files: filesIn(PLACES.pruned, /\.onnx$/),
    mutate: model,
    run: (folder) => healIn(folder, { out: join(folder, 'out') }),
  },
  healed: {
    needs: 'healed',
    files: filesIn(PLACES.healed, /^fang-prune-(healing|files)\.json$/),
    mutate: mutateDocument,
    run: async (folder) => formatHealed(await healIn(folder), PLAIN),
  },
  results: {
    needs: 'pruned',
    files: filesIn(PLACES.pruned, /^fang-prune-(report|files)\.json$/),
    mutate: mutateDocument,
    run: async (folder) => formatPruneReport(await pruneIn(folder, { out: join(folder, PLACES.pruned) }), PLAIN),
  },
  journals: {
    needs: 'journals',
    files: filesIn(`${PLACES.cut}.partial`, /^(run\.json|.*\.entry)$/),
    mutate: byName({
      '.json': mutateDocument,
      '.entry': (content, random, place) =>
        mutateEntry(content, random, {
          ...place,
          files: place.files.filter((name) => name.endsWith('.entry')),
          foreign: filesIn(`${PLACES.foreign}.partial`, /\.entry$/)(place.subject),
        }),
    }),
    run: resumeRuns,
  },
  reports: {
    needs: 'beside',
    files: fileAt(join(PLACES.pruned, 'fang-prune-report.json'), PLACES.beside),
    mutate: mutateDocument,
    run: (folder) =>
      rebuildReport({
        report: join(folder, PLACES.pruned),
        beside: [join(folder, PLACES.beside)],
        out: join(folder, 'report.json'),
      }),
  },
  measurements: {
    needs: 'measured',
    files: fileAt(PLACES.measured),
    mutate: mutateDocument,
    async run(folder, random) {
      if (random() < 0.5) return compareIn(folder, PLACES.measured);
      return rebuildReport({
        report: join(folder, PLACES.pruned),
        add: [join(folder, PLACES.measured)],
        out: join(folder, 'report.json'),
      });
    },
  },
  tasks: {
    files: fileAt(TASKS),
    mutate: mutateLines,
    run: measureTasksIn,
  },
  texts: {
    files: fileAt(PLACES.text),
    mutate: mutateText,
    run: (folder) =>
      pruneIn(folder, {
        dryRun: true,
        report: false,
        calibration: { ...CALIBRATED, source: { file: join(folder, PLACES.text) } },
      }),
  },
  documents: {
    files: fileAt(PLACES.documents),
    mutate: mutateLines,
    run: (folder) =>
      pruneIn(folder, {
        dryRun: true,
        report: false,
        calibration: { ...CALIBRATED, source: { file: join(folder, PLACES.documents) } },
      }),
  },
  windows: {
    needs: 'windows',
    files: fileAt(PLACES.windows),
    mutate: mutateLines,
    run: generateIn,
  },
  scores: {
    needs: 'scores',
    files: fileAt(PLACES.scores),
    mutate: mutateLines,
    run: (folder, random) => (random() < 0.3 ? compareIn(folder, PLACES.scores) : evaluateIn(folder)),
  },
};

const CALIBRATED = { windowCount: 2, windowLength: 16 } as const;
