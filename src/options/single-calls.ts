import { force, RESULT } from './folder.js';
import { above, anyText, atLeast, boolean, either, fraction, integer, listOf, record, text } from './kinds.js';
import { type AnyRows, row } from './option.js';
import { seedOf } from './run.js';

/** Rows of single calls, from which their request types are derived. */

const newFolder = (help: string) =>
  row('-o, --out <folder>', help, { kind: text('a path'), required: true, common: true });

export const OBSERVE_RESULT = {
  /** Folder that gets `statistics.json` and `statistics.safetensors`, or the path of such a `.json` file. */
  out: row('-o, --out <path>', 'where the statistics go: a folder, or a path ending in .json', {
    kind: text('a folder, or a path that ends in .json'),
    required: true,
    common: true,
  }),
  /** Replace statistics that exist. Default false. */
  force: { ...force, help: 'replace statistics that exist' },
  /**
   * Part of the windows to measure, from 1, such as `2/4`: shards can be measured on several machines, and are merged
   * by `mergeStatistics`. Not with function groups. Default: all windows.
   */
  shard: row(
    '--shard <i/n>',
    'collect statistics of one of n shards of the windows, for merge; n alone: i from Slurm or Kubernetes',
    {
      kind: text('a part of several, such as 2/4', (value) => /^([1-9]\d*\/)?[1-9]\d*$/.test(value)),
      otherwise: 'all windows',
    },
  ),
} as const satisfies AnyRows;

export const HEAL_RESULT = {
  /** Folder to create. */
  out: newFolder('where the healed model goes'),
  /** Replace `out` if it is empty or contains only files of an earlier run. Default false. */
  force: RESULT.force,
  /** Compare the written model with the pruned model in memory with healed weights. Default true. */
  certify: RESULT.certify,
} as const satisfies AnyRows;

export const TRIM_RESULT = {
  /** Folder to create; may be left out for a dry run. */
  out: { ...RESULT.out, help: 'where the trimmed model goes' },
  /** Replace `out` if it is empty or contains only files of an earlier run. Default false. */
  force: RESULT.force,
  /** Choose the tokens and report the sizes, but write no model. Default false. */
  dryRun: { ...RESULT.dryRun, help: 'choose the tokens and report the sizes; write no model' },
  /** Compare the logits of the written model with the original's. Default true. */
  certify: { ...RESULT.certify, help: 'do not compare the logits of the written model with the original' },
} as const satisfies AnyRows;

export const APPLY_RESULT = {
  /** Folder to create. */
  out: newFolder('where the pruned model goes'),
  /** Replace `out` if it exists. Default false. */
  force: RESULT.force,
  /** Folder with `recipe.json`, or the path of such a file. */
  recipe: row(undefined, 'recipe: removed units and changed weights', {
    kind: text('a folder with recipe.json, or such a file'),
    required: true,
  }),
} as const satisfies AnyRows;

export const SAMPLE = {
  /** Prompt that the model continues. */
  prompt: row('--generate <prompt>', 'let each model continue this prompt', { kind: anyText, required: true }),
  /** Largest number of tokens; the text ends where the model's context is full. Default 64. */
  newTokens: row('--new-tokens <count>', 'tokens to generate, at most', { kind: integer(1), default: 64 }),
  /** Sampling temperature; 0 takes the most likely token (greedy). Default 0. */
  temperature: row('--temperature <number>', 'sampling temperature; 0 takes the most likely token (greedy)', {
    kind: atLeast(0),
    default: 0,
  }),
  /** Seeds the sampling. Default 0. */
  seed: seedOf('seed of the sampling and of comparisons'),
} as const satisfies AnyRows;

export const BENCHMARK = {
  /** Tokens of the prompt, at least 1. Default 128, or the models' context length if that is less. */
  promptLength: row('--prompt-length <tokens>', 'tokens to read', {
    kind: integer(1),
    otherwise: "128, or the models' context length",
  }),
  /** Tokens generated after it, at least 1. Default 32. */
  newTokens: row('--new-tokens <count>', 'tokens to generate after them', { kind: integer(1), default: 32 }),
  /** Measured rounds, at least 2; every model runs once in each. An additional warm-up round comes first. Default 7. */
  rounds: row('--rounds <count>', 'rounds; every model runs once in each', { kind: integer(2), default: 7 }),
  /** Time neighbouring FFN widths of models whose widths differ from the first model's. Default true. */
  probe: row('--no-probe', 'do not time neighbouring FFN widths', { kind: boolean, default: true }),
  /**
   * Speedup over the first model, above 1, for which the size is predicted: for a model of the same dtype, assuming that time is
   * linear in the bytes of the weights. Needs a second model that is smaller and faster. Default: not reported.
   */
  faster: row(
    '--faster <times>',
    'report the size of a model that is this many times as fast as the first one, such as 1.5',
    {
      kind: above(1),
      otherwise: 'not reported',
    },
  ),
} as const satisfies AnyRows;

export const CONTEXTS = {
  /** Block whose FFN input is clustered. Default: the middle one. */
  block: row('--block <index>', 'block whose features contexts are clustered by', {
    kind: integer(0),
    otherwise: 'the middle one',
  }),
  /** Number of contexts (clusters of the tokens of both texts), at least 1. Default 12. */
  contextCount: row('--contexts <count>', 'contexts (clusters of the tokens)', { kind: integer(1), default: 12 }),
  /** Seeds the clustering. Default 0. */
  seed: seedOf('seed of the clustering'),
  /** Quote text as examples of contexts. Default true. */
  quoteText: row('--no-quotes', 'quote no text', { kind: boolean, default: true }),
} as const satisfies AnyRows;

export const REPORT_FILES = {
  /** A report (`.json`), or the pruned model's folder that contains it. */
  report: row(undefined, 'a report', { kind: text('a folder, or a path that ends in .json'), required: true }),
  /**
   * Measurements to add: results of `benchmark` or `measureCalibrationBias`, `{ models }` with those of `evaluateModels`, or JSON
   * files with the output of `fang-prune eval`, `bench` and `bias` with `--json`.
   */
  add: row('-a, --add <file>', "output of 'eval', 'bench' or 'bias' with '--json'; may be repeated", {
    kind: listOf(
      either(text('a path'), record<object>('the result of a measurement')),
      'a list of paths and measurements, such as ["eval.json"]',
      'texts',
    ),
    otherwise: 'none',
  }),
  /** Reports of other runs of the same dense model, to compare with it: a `.json` file each, or a pruned model's folder. */
  beside: row('-b, --beside <report>', 'another run of the same dense model, to compare with it; may be repeated', {
    kind: listOf(text('a folder, or a path that ends in .json'), 'a list of reports', 'texts'),
    otherwise: 'none',
  }),
  /** Path of the result, ending in `.json`, with its page next to it. Default: in place. */
  out: row('-o, --out <file>', 'where the result goes, ending in .json', {
    kind: text('a path that ends in .json', (path) => path.endsWith('.json')),
    otherwise: 'in place',
  }),
} as const satisfies AnyRows;

export const CHOICE = {
  /** Text to measure on. Default: `text`, which is optimistic for models that were calibrated on it. */
  test: row('--test <file>', 'text that they are measured on', {
    kind: text('a path'),
    otherwise: 'that of --text, optimistic for models that were calibrated on it',
    common: true,
  }),
  /** Largest allowed increase of bits per byte, as a fraction of the dense model's. Default 0.02. */
  mostLoss: row('--most-loss <fraction>', "largest increase of bits per byte, as a fraction of the dense model's", {
    kind: fraction,
    default: 0.02,
    common: true,
  }),
} as const satisfies AnyRows;
