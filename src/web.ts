import { pageCalls } from './web/call-in-page.js';

export { callOn } from './pipeline/call-on.js';
export * from './pipeline/calls.js';
/**
 * The browser entry: the calls of Node.js for pages. For the path of a folder a page passes a directory handle, a list
 * of chosen files, a map of bytes, or a path in the origin's private file system; for the path of a file, a `File` or
 * such a path. Results are written into a handle, a map or such a path. Each call runs in its own worker.
 */
export * from './public.js';
export type { WorkerLike, WorkerSettings } from './web/call-in-worker.js';
export type { DirectoryHandle, FileHandle } from './web/handle-folder.js';
export type { BlobLike } from './web/map-folder.js';
export type { InPage, PageFile, PageFolder } from './web/page-request.js';
export { createPruneWorker, type InWorker, type PruneWorker } from './web/prune-worker.js';
export type { WebHub } from './web/web-hub-store.js';
export type { ChosenFile, WebPlace } from './web/web-place.js';
export { createWebPlatform, type WebPlatformOptions } from './web/web-platform.js';
export type { WebRuntime } from './web/web-runtime.js';

/**
 * Prunes a model and writes a smaller one of the same layout, with all files that runtimes read next to it.
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when aborted.
 * @example
 * await prune({ model: await showDirectoryPicker(), out: 'smaller', sparsity: 0.3 }); // into the private file system
 */
export const prune = pageCalls.prune;

/** Estimates what `prune` or `pruneLadder` would produce: sizes and run time. Nothing is written. @throws the errors of `prune` */
export const plan = pageCalls.plan;

/**
 * Prunes a model at several sparsities after one measurement of the dense model. Each rung is a folder in `out`, named by its sparsity in percent.
 * @returns the reports in the order of `sparsity`.
 * @throws the errors of `prune`
 */
export const pruneLadder = pageCalls.pruneLadder;

/** Writes a model in other dtypes, without pruning. @throws the errors of `prune` */
export const quantize = pageCalls.quantize;

/** Makes the best model of a given size, with fewer units and fewer bits. @throws the errors of `prune`, also for a size that cannot be met */
export const shrink = pageCalls.shrink;

/** Estimates which sizes `shrink` can reach, and the run time. Nothing is written. @throws the errors of `shrink` */
export const planShrink = pageCalls.planShrink;

/** Makes a model in several sizes, measures all of them on a text, and recommends one. @throws the errors of `shrink` and `evaluateModels` */
export const choose = pageCalls.choose;

/**
 * Collects the statistics of a dense model that pruning reads, so that `prune({ statistics })` can prune without running
 * the model on text again.
 * @throws the errors of `prune`
 */
export const observe = pageCalls.observe;

/**
 * Prunes a model from the recipe of another run: no calibration, and byte-identical results.
 * @throws OptionError when the model is not the recipe's, or `out` is not empty; ModelFormatError when the recipe is
 *   damaged; UnsupportedModelError, EngineError.
 */
export const applyRecipe = pageCalls.applyRecipe;

/**
 * Trains a pruned model on the predictions of the dense one (distillation), and writes the result.
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when
 *   aborted.
 */
export const heal = pageCalls.heal;

/**
 * Removes tokens from a model's vocabulary, by language, merge rank or list, and writes the result.
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when
 *   aborted.
 */
export const trimVocabulary = pageCalls.trimVocabulary;

/**
 * Describes a model: its blocks, widths, heads, and prunable parts. No weight is read.
 * @throws OptionError, ModelFormatError, UnsupportedModelError
 */
export const describe = pageCalls.describe;

/** Perplexity of a model on a text. @throws OptionError, ModelFormatError, EngineError, NumericalError */
export const perplexity = pageCalls.perplexity;

/** Measures a model on a task file by the protocol of lm-evaluation-harness. @throws OptionError, ModelFormatError, EngineError */
export const evaluateTasks = pageCalls.evaluateTasks;

/** Log-likelihoods of continuations, in the order of the pairs. @throws OptionError, EngineError, NumericalError */
export const logLikelihoods = pageCalls.logLikelihoods;

/** Generates text after a prompt, with the KV cache if the graph has one. @throws OptionError, EngineError */
export const generateText = pageCalls.generateText;

/** Measures models on texts and tasks, each model loaded once. @returns in the order of the models. @throws the errors of `perplexity` */
export const evaluateModels = pageCalls.evaluateModels;

/** Compares the cost of pruning on the calibration text and on another text, by context. @throws the errors of `perplexity` */
export const measureCalibrationBias = pageCalls.measureCalibrationBias;
