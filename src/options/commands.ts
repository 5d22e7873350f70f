import { BUDGET } from './budget.js';
import { CALIBRATION, CALIBRATION_OF_ROUNDING, TEXTS_OF_HEALING } from './calibration.js';
import { COMPARISON } from './comparison.js';
import { CALIBRATION_OR_STATISTICS, EVALUATION, EXECUTION, RESULT, STAGES_OPTION, stopHealing } from './folder.js';
import { FUNCTIONS } from './groups.js';
import { HEAL_SETTINGS, HEALING } from './healing.js';
import { anyText, boolean, fraction, integer, type Kind, listOf, text } from './kinds.js';
import { ENGINE, JOB, MODEL, modelPath, modelPaths, PROVIDER } from './model.js';
import { isRepoName, isRevision } from './model-id.js';
import { type Families, row, withoutFlags } from './option.js';
import { QUANTISATION } from './quantisation.js';
import { CONTROL, RUN } from './run.js';
import { SCORE } from './score.js';
import { SHRINK_ROWS } from './shrink.js';
import {
  APPLY_RESULT,
  BENCHMARK,
  CHOICE,
  CONTEXTS,
  HEAL_RESULT,
  OBSERVE_RESULT,
  REPORT_FILES,
  SAMPLE,
  TRIM_RESULT,
} from './single-calls.js';
import { fileList, READING, TEXT_EVALUATION, TEXT_WINDOWS } from './texts.js';
import { VOCABULARY } from './vocabulary.js';

/** Options of every call, under the headings of the command line's help. */

const { dtype, ...FORM } = QUANTISATION;
const { symmetric, accuracyLevel } = FORM;

export const PRUNE = {
  Result: { ...RESULT, dtype },
  Budget: BUDGET,
  Quantisation: { ...FORM, ...withoutFlags({ symmetric, accuracyLevel }) },
  Method: { ...SCORE, ...HEALING },
  'Function groups': FUNCTIONS,
  Calibration: { ...CALIBRATION_OR_STATISTICS, ...READING },
  Evaluation: EVALUATION,
  Running: { ...RUN, ...MODEL, ...EXECUTION, stopHealing },
} as const satisfies Families;

export const LADDER = {
  ...PRUNE,
  Budget: {
    ...BUDGET,
    sparsity: {
      ...BUDGET.sparsity,
      kind: listOf(fraction, 'a list of fractions from 0 to below 1, such as [0.1, 0.2]', 'fractions'),
    },
  },
} as const satisfies Families;

export const OBSERVE = {
  Result: OBSERVE_RESULT,
  Method: { method: SCORE.method, modules: BUDGET.modules, metric: { ...SCORE.metric, common: true } },
  'Function groups': FUNCTIONS,
  Calibration: { ...CALIBRATION, ...READING },
  Running: { ...RUN, ...MODEL, ...EXECUTION },
} as const satisfies Families;

export const MERGE = {
  Result: { out: OBSERVE_RESULT.out, force: OBSERVE_RESULT.force },
  Shards: {
    shards: row(undefined, 'results of observe --shard', { kind: fileList, required: true }),
    ...CONTROL,
  },
} as const satisfies Families;

export const HEAL = {
  Result: HEAL_RESULT,
  Healing: HEAL_SETTINGS,
  Calibration: { ...TEXTS_OF_HEALING, ...READING },
  Running: {
    dense: row(undefined, 'the model that was pruned', { kind: modelPath, required: true }),
    pruned: row(undefined, 'the pruned model', { kind: modelPath, required: true }),
    seed: RUN.seed,
    ...EXECUTION,
    stopHealing,
    ...ENGINE,
    ...JOB,
  },
} as const satisfies Families;

const { recipe: _, out: quantized, ...FOLDER } = RESULT;

/** Options of report and certificate for calls that do not prune. */
const QUANTISED_RESULT = {
  dryRun: {
    ...FOLDER.dryRun,
    help: 'check everything, estimate sizes and time; with --report also round, but write no model',
  },
  report: { ...FOLDER.report, otherwise: 'next to the quantised model' },
  quoteText: FOLDER.quoteText,
  reportPaths: FOLDER.reportPaths,
  certify: { ...FOLDER.certify, help: 'do not compare the written model with the original, rounded in the same way' },
};

export const QUANTIZE = {
  Result: {
    out: { ...quantized, help: 'where the quantised model goes' },
    dtype: { ...dtype, required: true },
    force: FOLDER.force,
    ...QUANTISED_RESULT,
  },
  Quantisation: FORM,
  Calibration: { ...CALIBRATION_OF_ROUNDING, ...READING },
  Evaluation: EVALUATION,
  Running: { ...RUN, ...MODEL, ...EXECUTION },
} as const satisfies Families;

const { applies: _applies, ...SHRINK_CALIBRATION } = CALIBRATION.calibration;
const { source, ...CALIBRATION_PARTS } = SHRINK_CALIBRATION.parts;
const { applies: _dtype, ...anyLayout } = QUANTISATION.layout;
const { texts: _texts, ...TOKENS } = VOCABULARY;

export const SHRINK = {
  Result: {
    out: { ...RESULT.out, help: 'where the smaller model goes' },
    ...SHRINK_ROWS,
    force: FOLDER.force,
    dryRun: {
      ...FOLDER.dryRun,
      help: 'estimate possible sizes and time; with --report decide everything, but write no model',
    },
    report: { ...FOLDER.report, otherwise: 'next to the smaller model' },
    quoteText: FOLDER.quoteText,
    reportPaths: FOLDER.reportPaths,
    certify: RESULT.certify,
    recipe: RESULT.recipe,
  },
  Vocabulary: TOKENS,
  Method: HEALING,
  Calibration: {
    text: row(
      '-t, --text <file>',
      'your text, .txt or .jsonl: calibrates the model; its last quarter chooses among candidates',
      {
        kind: text('a path'),
        otherwise: 'a bundled text',
        common: true,
      },
    ),
    calibration: {
      ...SHRINK_CALIBRATION,
      parts: { source: { ...source, flag: undefined }, ...CALIBRATION_PARTS },
    },
    ...READING,
  },
  Evaluation: {
    evaluation: {
      ...EVALUATION.evaluation,
      parts: { ...TEXT_EVALUATION, texts: { ...TEXT_EVALUATION.texts, flag: undefined } },
    },
  },
  Quantisation: { layout: anyLayout },
  Running: { ...RUN, ...MODEL, ...EXECUTION, stopHealing },
} as const satisfies Families;

/** Options of `planShrink`. */
export const PLAN_SHRINK = {
  ...SHRINK,
  Calibration: {
    ...SHRINK.Calibration,
    statistics: {
      ...CALIBRATION_OR_STATISTICS.statistics,
      help: 'statistics that observe wrote; only with --dry-run (planShrink), which then predicts the best mixture',
      common: false,
    },
  },
} as const satisfies Families;

const { out: shrunk, targetSize, allow, dtypes, certify } = SHRINK.Result;
const { text: calibrated, ...SHRINK_READING } = SHRINK.Calibration;
const { stopHealing: _stop, ...RUNNING } = SHRINK.Running;

/** Options of `choose`: those of `shrink`, the test text and the allowed loss. */
export const CHOOSE = {
  Result: {
    out: { ...shrunk, help: 'folder for the results, one folder per model', required: true },
    targetSize: {
      ...targetSize,
      help: 'sizes to try in addition to q8 and q4',
      otherwise: 'one between both, and two below q4',
    },
    allow,
    dtypes,
    force: FOLDER.force,
    certify,
  },
  Vocabulary: SHRINK.Vocabulary,
  Choice: {
    text: { ...calibrated, help: 'your calibration text, .txt or .jsonl', required: true },
    ...CHOICE,
  },
  Method: SHRINK.Method,
  Calibration: SHRINK_READING,
  Running: RUNNING,
} as const satisfies Families;

export const TRIM_VOCABULARY = {
  Result: TRIM_RESULT,
  Vocabulary: VOCABULARY,
  Running: { ...MODEL, ...EXECUTION },
} as const satisfies Families;

export const APPLY = {
  Result: APPLY_RESULT,
  Running: { ...MODEL, ...STAGES_OPTION },
} as const satisfies Families;

export const DESCRIBE = { Running: { ...MODEL, ...STAGES_OPTION } } as const satisfies Families;

const ITEMS = {
  limit: row('--limit <count>', 'items of each task, from the first', { kind: integer(1), otherwise: 'all' }),
  resume: row('--resume <file>', 'save scores to this file, and resume from it when it exists', {
    kind: text('a path'),
    otherwise: 'none',
  }),
  delimiter: row(undefined, 'text between context and continuation', { kind: anyText, otherwise: 'one space' }),
} as const satisfies Families[string];

export const EVALUATE = {
  Texts: {
    texts: row('-t, --text <file>', 'text to measure perplexity on, .txt or .jsonl; may be repeated', {
      kind: fileList,
      otherwise: 'none',
    }),
    ...TEXT_WINDOWS,
    ...READING,
    reference: row('--reference <model>', 'also measure the KL divergence from this model on the texts', {
      kind: modelPath,
      otherwise: 'none',
    }),
  },
  Tasks: {
    tasks: row('--tasks <file>', 'items to answer, JSONL with the fields of lm-evaluation-harness; may be repeated', {
      kind: fileList,
      otherwise: 'none',
    }),
    ...ITEMS,
  },
  Running: { models: { kind: modelPaths, required: true, help: 'the models' }, ...ENGINE, ...JOB },
} as const satisfies Families;

export const TASKS = {
  Tasks: { file: { kind: text('a path'), required: true, help: 'items, JSONL' }, ...ITEMS, ...READING },
  Running: MODEL,
} as const satisfies Families;

export const PERPLEXITY = {
  Texts: {
    text: row(undefined, 'text file, UTF-8', { kind: text('a path'), otherwise: 'none: give content' }),
    content: row(undefined, 'the text itself', { kind: anyText, otherwise: 'none: give a file as text' }),
    ...TEXT_WINDOWS,
    ...READING,
  },
  Running: MODEL,
} as const satisfies Families;

const textPair: Kind<{ readonly context: string; readonly continuation: string }> = {
  accepts: (value): value is never =>
    [Object(value).context, Object(value).continuation].every((part) => typeof part === 'string'),
  expected: 'pairs { context, continuation } of texts',
};

export const LOG_LIKELIHOOD = {
  Texts: {
    pairs: row(undefined, 'contexts and continuations', {
      kind: listOf(textPair, 'a list of contexts and continuations', 'texts'),
      required: true,
    }),
    ...READING,
  },
  Running: MODEL,
} as const satisfies Families;

export const GENERATE_TEXT = {
  'Sample text': SAMPLE,
  Running: { ...MODEL, ...READING },
} as const satisfies Families;

export const COMPARE = {
  Comparison: { files: row(undefined, 'evaluations', { kind: fileList, required: true }), ...COMPARISON, ...CONTROL },
} as const satisfies Families;

export const BENCH = {
  Benchmark: BENCHMARK,
  Running: {
    models: row(undefined, 'the models; the others are compared with the first', { kind: modelPaths, required: true }),
    ...PROVIDER,
    onProgress: JOB.onProgress,
    signal: JOB.signal,
  },
} as const satisfies Families;

export const BIAS = {
  Texts: {
    text: row('-t, --text <file>', 'a .txt or .jsonl file to compare the calibration with', {
      kind: text('a path'),
      required: true,
    }),
    ...CALIBRATION,
    ...READING,
    windowCount: row('--read <count>', 'windows read of either text', { kind: integer(1), default: 16 }),
  },
  Contexts: CONTEXTS,
  Running: {
    dense: row(undefined, 'the model that was pruned', { kind: modelPath, required: true }),
    pruned: row(undefined, 'the pruned model', { kind: modelPath, required: true }),
    ...ENGINE,
    ...JOB,
  },
} as const satisfies Families;

/** `org/name` on the Hub. */
const repoName = (expected: string) => text(expected, isRepoName);

export const PUSH = {
  Repository: {
    /** Folder that a run wrote. */
    folder: row(undefined, 'a folder that fang-prune wrote', { kind: text('a folder'), required: true }),
    /** Repository on the Hub, `org/name`. */
    repo: row(undefined, 'repository on the Hub', {
      kind: repoName('a name on the Hub, such as me/model-30'),
      required: true,
    }),
    /** Branch to commit to. Default `main`. */
    branch: row('--branch <name>', 'branch to commit to', {
      kind: text('a name such as main', isRevision),
      default: 'main',
    }),
    /** Create the repository if it does not exist. Default false. */
    create: row('--create', 'create the repository if it does not exist', { kind: boolean, default: false }),
    /** Create it as a private repository. Default false. */
    private: row('--private', 'create it as a private repository', { kind: boolean, default: false }),
    /** Message of the commit. */
    message: row('--message <text>', 'commit message', {
      kind: anyText,
      otherwise: 'Upload a model made smaller by fang-prune',
    }),
  },
  Card: {
    /** The dense model on the Hub, `org/name`, for the model card. Default: the source in the report. */
    baseModel: row('--base-model <id>', 'the dense model on the Hub, for the model card', {
      kind: repoName('a model on the Hub, such as org/name'),
      otherwise: 'the source in the report',
    }),
    /** Licence of the model by the Hub's identifier, for the model card. Default: that of the dense model on the Hub. */
    license: row('--license <name>', "licence of the model by the Hub's identifier, for the model card", {
      kind: text('a name, such as apache-2.0'),
      otherwise: 'that of the dense model on the Hub',
    }),
  },
  Files: {
    /** Further files of the folder to upload, relative to it, in addition to known model files. Default: none. */
    include: row(
      '--include <file>',
      'another file of the folder to upload, in addition to known model files; may be repeated',
      {
        kind: listOf(text('a path in the folder'), 'a list of files, such as ["figure.png"]', 'texts'),
        otherwise: 'none',
      },
    ),
    /** Also upload the report and calibration windows, which quote text; the report contains no paths. Default false. */
    withReport: row('--with-report', 'upload report and calibration windows too, which quote text', {
      kind: boolean,
      default: false,
    }),
  },
  Running: {
    /** List the files to upload, without network. Default false. */
    dryRun: row('--dry-run', 'show the card and the files to upload; use no network', {
      kind: boolean,
      default: false,
    }),
    ...CONTROL,
  },
} as const satisfies Families;

export const REPORT = {
  Report: REPORT_FILES,
  Running: CONTROL,
} as const satisfies Families;
