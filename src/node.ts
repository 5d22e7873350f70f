import { nodeCalls } from './node/node-calls.js';
import { nodePlatform } from './node/node-platform.js';
import { type OpenModelOptions, openModelFolder as openFolder } from './storage/model-folder.js';

export {
  type BenchmarkReport,
  type BenchmarkRequest,
  benchmark,
  type ModelSpeed,
} from './node/benchmark.js';
export type { SpeedComparison, SpeedTarget } from './node/explain-speed.js';
export type { IsolateOption, NodeCalls } from './node/node-calls.js';
export { createNodeEngine } from './node/node-engine.js';
export { nodePlatform } from './node/node-platform.js';
export type { WidthProbes } from './node/probe-widths.js';
export { callOn } from './pipeline/call-on.js';
export * from './pipeline/calls.js';
export * from './public.js';

/**
 * Prunes a model folder and writes a smaller one of the same layout, with all files that runtimes read next to it.
 * The output folder appears only when it is complete, and the original is never modified.
 *
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when
 *   aborted.
 * @example
 * await prune({ model: './model', out: './smaller', sparsity: 0.3, method: 'flap' });
 */
export const prune = nodeCalls.prune;

/**
 * Estimates in seconds what `prune` or `pruneLadder` would produce: sizes, widths if they follow from the sparsity
 * alone, and run time. It makes all checks of a run; no text is read, and nothing is written.
 *
 * @throws OptionError, ModelFormatError, UnsupportedModelError, EngineError, as the run would; the signal's reason when
 *   aborted.
 * @example
 * const { results, ms } = await plan({ model: './model', out: './smaller', sparsity: 0.3 });
 */
export const plan = nodeCalls.plan;

/**
 * Prunes a model folder at several sparsities after one measurement of the dense model: calibration windows, contexts,
 * gradients and removal orders are shared. Each rung is the folder that `prune` would write, byte for byte except for
 * its report, and appears when it is complete; if a rung fails, earlier ones remain. Every report includes the times of
 * shared stages, and finally the table of the entire ladder.
 *
 * @returns the reports in the order of `sparsity`.
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when
 *   aborted.
 * @example
 * await pruneLadder({ model: './model', out: './ladder', sparsity: [0.1, 0.2, 0.3, 0.4] }); // ladder/10 ... ladder/40
 */
export const pruneLadder = nodeCalls.pruneLadder;

/**
 * Writes a model folder in other dtypes, under the file names of its runtime, without pruning. By default weights are
 * rounded with error feedback (GPTQ), weighted by the effect on the model's predictions.
 *
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when
 *   aborted.
 * @example
 * await quantize({ model: './model', out: './small', dtype: ['q4', 'fp16'] });
 */
export const quantize = nodeCalls.quantize;

/**
 * Makes the best model of a given size. The cost in divergence of removing neurons, heads, experts and bits is measured
 * on the dense model, mixtures of reductions are compared on held-out windows, and the best one is written. There it is
 * at least as good as the best single reduction.
 *
 * @returns a report for each size, in their order.
 * @throws OptionError, also for a size that cannot be met, naming the smallest that can; ModelFormatError,
 *   UnsupportedModelError, NumericalError, EngineError; the signal's reason when aborted.
 * @example
 * const [report] = await shrink({ model: './model', out: './smaller', targetSize: '60MB', text: 'mine.txt' });
 */
export const shrink = nodeCalls.shrink;

/**
 * Estimates in seconds which sizes `shrink` can reach, the size of each dtype, and the run time; from statistics of
 * `observe` also the best mixture for each size. No text is read, and nothing is written.
 *
 * @throws OptionError, also for a size that cannot be met; ModelFormatError, UnsupportedModelError, EngineError, as the
 *   run would.
 * @example
 * const { smallest, dtypes, ms } = await planShrink({ model: './model', targetSize: '60MB' });
 */
export const planShrink = nodeCalls.planShrink;

/**
 * Makes a model in q8, q4 and several sizes, measures bits per byte of a text and speed of all, and recommends the
 * smallest within the allowed loss.
 *
 * @returns the measurements, the dense model first.
 * @throws the errors of `quantize`, `shrink` and `evaluateModels`
 * @example
 * const { models, recommended } = await choose({ model: './model', out: './sizes', text: 'mine.txt', test: 'other.txt' });
 */
export const choose = nodeCalls.choose;

/**
 * Collects the statistics of a dense model that pruning reads, so that `prune({ statistics })` can prune at any
 * sparsity, with any method that needs no other statistics, without running the model on text again. The statistics are
 * those that `method`, `metric` and `grouping` need: `{ method: 'o-fang', metric: 'divergence' }` covers all methods.
 * The files appear when they are complete.
 *
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when
 *   aborted.
 * @example
 * await observe({ model: './model', out: './statistics' });
 * await prune({ model: './model', out: './smaller', sparsity: 0.3, statistics: './statistics' });
 */
export const observe = nodeCalls.observe;

/**
 * Merges the statistics of all shards that `observe({ shard })` wrote on several machines, given in any order:
 * `prune({ statistics })` prunes from the result.
 *
 * @throws OptionError naming a shard that is missing, repeated, or of another observation; ModelFormatError naming a damaged file; the
 *   signal's reason when aborted.
 * @example
 * await observe({ model: './model', out: './shard-1', shard: '1/2' });
 * await observe({ model: './model', out: './shard-2', shard: '2/2' });
 * await mergeStatistics({ shards: ['./shard-1', './shard-2'], out: './statistics' });
 */
export const mergeStatistics = nodeCalls.mergeStatistics;

/**
 * Prunes a model from the recipe of another run: no calibration, and byte-identical results.
 *
 * @throws OptionError when the model is not the recipe's, or `out` exists; ModelFormatError when the recipe is damaged
 *   or its result differs from the recorded hash; UnsupportedModelError, EngineError.
 * @example
 * await prune({ model: './model', out: './smaller', sparsity: 0.3, recipe: './recipe' });
 * await applyRecipe({ model: './copy-of-model', recipe: './recipe', out: './the-same' });
 */
export const applyRecipe = nodeCalls.applyRecipe;

/**
 * Trains a pruned model on the predictions of the dense one (distillation), on text that the dense model generates, and
 * writes the result. If the divergence on held-out windows does not decrease, the weights are unchanged.
 *
 * @throws OptionError, ModelFormatError; UnsupportedModelError when the pruned model does not come from the dense one,
 *   or an operator has no gradient; NumericalError when training diverges; EngineError; the signal's reason when
 *   aborted.
 * @example
 * await heal({ dense: './model', pruned: './smaller', out: './healed', heal: { windowCount: 64 } });
 */
export const heal = nodeCalls.heal;

/**
 * Removes tokens from a model's vocabulary: rows of the embedding and the LM head, and entries of tokenizer and
 * configuration. Remaining tokens are chosen by language, by merge rank or by a list. Their logits are bit-identical,
 * and any text can still be encoded.
 *
 * @throws OptionError; ModelFormatError when tokenizer.json is another model's; UnsupportedModelError for a tokenizer
 *   or a graph that cannot be trimmed; NumericalError, EngineError; the signal's reason when aborted.
 * @example
 * const { rows, bytes } = await trimVocabulary({ model: './model', out: './smaller', keepLanguages: ['en', 'de'] });
 */
export const trimVocabulary = nodeCalls.trimVocabulary;

/**
 * Describes a model: its blocks, widths, heads, and prunable parts; for other parts the reason, the node and the
 * nearest known structure. No weight is read.
 * @throws OptionError, ModelFormatError, UnsupportedModelError
 */
export const describe = nodeCalls.describe;

/**
 * Perplexity of a model folder on a text. The result includes its protocol, since only figures of the same protocol are
 * comparable.
 * @throws OptionError for a text too short, a missing tokenizer or BOS token; ModelFormatError, EngineError,
 *   NumericalError.
 */
export const perplexity = nodeCalls.perplexity;

/**
 * Measures a model folder on a task file by the protocol of lm-evaluation-harness.
 * @throws OptionError for a malformed line, naming file and line, or a missing tokenizer; ModelFormatError, EngineError,
 * NumericalError.
 */
export const evaluateTasks = nodeCalls.evaluateTasks;

/** Log-likelihoods of continuations, in the order of the pairs. @throws OptionError, EngineError, NumericalError */
export const logLikelihoods = nodeCalls.logLikelihoods;

/** Generates text after a prompt, with the KV cache if the graph has one. @throws OptionError, EngineError */
export const generateText = nodeCalls.generateText;

/**
 * Measures models on texts and tasks, each model loaded once.
 *
 * @returns In the order of the models.
 * @throws OptionError for a malformed task line, naming file and line, a text too short, a missing tokenizer, or a file of
 * other scores; ModelFormatError, UnsupportedModelError, EngineError, NumericalError.
 */
export const evaluateModels = nodeCalls.evaluateModels;

/** Compares saved evaluations. @throws OptionError */
export const compareFiles = nodeCalls.compareFiles;

/**
 * Compares what pruning costs on the calibration text and on another one, context by context: kinds of text that the
 * calibration lacks can degrade much without any sign on the calibration text.
 *
 * @throws OptionError for a text shorter than a window; ModelFormatError, UnsupportedModelError, EngineError,
 *   NumericalError.
 * @example
 * const { warnings } = await measureCalibrationBias({ dense: 'model', pruned: 'smaller', text: 'my-domain.txt' });
 */
export const measureCalibrationBias = nodeCalls.measureCalibrationBias;

/**
 * Adds measurements to a report, and writes it and its page again.
 * @throws OptionError when there is no report, or a file contains no measurements of its models; ModelFormatError for files
 *   that are not JSON, of more than 32 MiB, or a report of another version; the signal's reason when aborted.
 * @example
 * await rebuildReport({ report: 'smaller', add: ['eval.json'] });
 */
export const rebuildReport = nodeCalls.rebuildReport;

/**
 * Uploads a folder that a run wrote to the Hugging Face Hub, in one commit, with a model card. Only files of its
 * manifest are uploaded, and report and calibration windows only on request.
 *
 * @throws OptionError for a folder that no run wrote; ModelFormatError when a file is not as it was written; HubError.
 * @example
 * const { commit } = await push({ folder: './smaller', repo: 'me/smaller', create: true });
 */
export const push = nodeCalls.push;

/**
 * Opens a model with its configuration and tokenizer; missing files of a Hub model are downloaded first.
 * @param path a folder in transformers.js or onnxruntime-genai layout, an `.onnx` file, or a model of the Hub,
 *   `org/name`
 * @throws OptionError with the names of the files that were not found; UnsupportedModelError for an encoder-decoder,
 *   or when all ONNX files have quantised weights.
 * @throws ModelFormatError when a JSON file is damaged.
 */
export const openModelFolder = (path: string, options: OpenModelOptions = {}) =>
  openFolder(nodePlatform, path, options);
