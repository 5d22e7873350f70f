import { pageCalls } from './web/call-in-page.js';

export * from './pipeline/calls.js';
export type { DirectoryHandle, FileHandle } from './platform/web/handle-folder.js';
export type { BlobLike } from './platform/web/map-folder.js';
export type { WebHub } from './platform/web/web-hub-store.js';
export type { ChosenFile, WebPlace } from './platform/web/web-place.js';
export { createWebPlatform, type WebPlatformOptions } from './platform/web/web-platform.js';
export type { WebRuntime } from './platform/web/web-runtime.js';
/**
 * The browser entry: the calls of Node.js on what a page has. Where Node.js takes the path of a folder, a page gives a directory
 * handle, a list of chosen files, a map of bytes, or a path in the origin's private file system; where it takes a file's, a `File`
 * or such a path. What is written goes into a handle, a map or such a path. Each call of a page is made in a worker of its own.
 */
export * from './public.js';
export { callOn } from './remote/call-on.js';
export type { WorkerLike, WorkerSettings } from './web/call-in-worker.js';
export type { InPage, PageFile, PageFolder } from './web/page-request.js';
export { createPruneWorker, type InWorker, type PruneWorker } from './web/prune-worker.js';

/**
 * Prunes a model and writes a smaller one of the same kind, with everything that lay next to the original.
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when aborted.
 * @example
 * await prune({ model: await showDirectoryPicker(), out: 'smaller', sparsity: 0.3 }); // into the private file system
 */
export const prune = pageCalls.prune;

/** Tells what `prune` or `pruneLadder` will make of a request: sizes, and how long it will take. Nothing is written. @throws what `prune` throws */
export const plan = pageCalls.plan;

/**
 * Prunes a model at several sparsities after one measurement of the dense model. Each rung is a folder in `out`, named by its percent.
 * @returns the reports in the order of `sparsity`.
 * @throws what `prune` throws
 */
export const pruneLadder = pageCalls.pruneLadder;

/** Writes a model in other dtypes: `prune` with nothing removed. @throws what `prune` throws */
export const quantize = pageCalls.quantize;

/** Makes the best model of a size, from fewer units and fewer bits. @throws what `prune` throws, also for a size that cannot be met */
export const shrink = pageCalls.shrink;

/** Tells which sizes `shrink` can make of a model, and how long it takes. Nothing is written. @throws what `shrink` throws */
export const planShrink = pageCalls.planShrink;

/** Makes a model in several sizes, measures all of them on a text, and recommends one. @throws what `shrink` and `evaluateModels` throw */
export const choose = pageCalls.choose;

/**
 * Collects the statistics of a dense model that pruning reads, so that `prune({ statistics })` can prune without running
 * the model on text again.
 * @throws what `prune` throws
 */
export const observe = pageCalls.observe;

/**
 * Prunes a model as another run did, from its recipe: no calibration, the same bytes.
 * @throws OptionError when the model is not the recipe's, or `out` is not empty; ModelFormatError when the recipe is damaged;
 * UnsupportedModelError, EngineError.
 */
export const applyRecipe = pageCalls.applyRecipe;

/**
 * Trains a pruned model on what the dense one predicts, and writes the result.
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when aborted.
 */
export const heal = pageCalls.heal;

/**
 * Takes tokens out of a model's vocabulary, by languages, by rank or by a list, and writes the result.
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when aborted.
 */
export const trimVocabulary = pageCalls.trimVocabulary;

/**
 * Describes a model: its blocks, widths, heads, and what can be pruned. No weight is read.
 * @throws OptionError, ModelFormatError, UnsupportedModelError
 */
export const describe = pageCalls.describe;

/** Perplexity of a model on a text. @throws OptionError, ModelFormatError, EngineError, NumericalError */
export const perplexity = pageCalls.perplexity;

/** Measures a model on a task file by the protocol of lm-evaluation-harness. @throws OptionError, ModelFormatError, EngineError */
export const evaluateTasks = pageCalls.evaluateTasks;

/** Log-likelihoods of continuations, in the order of the pairs. @throws OptionError, EngineError, NumericalError */
export const logLikelihoods = pageCalls.logLikelihoods;

/** Lets a model continue a prompt, with its KV cache where the graph has one. @throws OptionError, EngineError */
export const generateText = pageCalls.generateText;

/** Measures models on texts and tasks, each model loaded once. @returns in the order of the models. @throws what `perplexity` throws */
export const evaluateModels = pageCalls.evaluateModels;

/** Compares what pruning costs on the calibration text and on another one, context by context. @throws what `perplexity` throws */
export const measureCalibrationBias = pageCalls.measureCalibrationBias;
