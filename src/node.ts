import { nodePlatform } from './platform/node/node-platform.js';
import { nodeCalls } from './processes/node-calls.js';
import { type OpenModelOptions, openModelFolder as openFolder } from './storage/model-folder.js';

export * from './pipeline/calls.js';
export { createNodeEngine } from './platform/node/node-engine.js';
export { nodePlatform } from './platform/node/node-platform.js';
export {
  type BenchmarkReport,
  type BenchmarkRequest,
  benchmark,
  type ModelSpeed,
} from './processes/benchmark.js';
export type { SpeedComparison, SpeedTarget } from './processes/explain-speed.js';
export type { IsolateOption, NodeCalls } from './processes/node-calls.js';
export type { WidthProbes } from './processes/probe-widths.js';
export * from './public.js';
export { callOn } from './remote/call-on.js';

/**
 * Prunes a model folder and writes a smaller one of the same kind, with everything that lay next to the original.
 * Nothing appears under the final name before it is complete, and the original is never touched.
 *
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when aborted.
 * @example
 * await prune({ model: './model', out: './smaller', sparsity: 0.3, method: 'flap' });
 */
export const prune = nodeCalls.prune;

/**
 * Tells what `prune` or `pruneLadder` will make of a request, in seconds: sizes, widths where they follow only from the sparsity,
 * and how long it will take. All that a run checks before its work is checked; no text is read, and nothing is written.
 *
 * @throws OptionError, ModelFormatError, UnsupportedModelError, EngineError, as the run would; the signal's reason when aborted.
 * @example
 * const { results, ms } = await plan({ model: './model', out: './smaller', sparsity: 0.3 });
 */
export const plan = nodeCalls.plan;

/**
 * Prunes a model folder at several sparsities after one measurement of the dense model: calibration windows, contexts, gradients
 * and removal orders are shared. Each rung is the folder that `prune` would write, byte for byte but for its report, and
 * appears under its name when it is complete; when a rung fails, those before it remain. Times of shared stages stand in
 * every report, and when all rungs are done the table of the entire ladder.
 *
 * @returns the reports in the order of `sparsity`.
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when aborted.
 * @example
 * await pruneLadder({ model: './model', out: './ladder', sparsity: [0.1, 0.2, 0.3, 0.4] }); // ladder/10 ... ladder/40
 */
export const pruneLadder = nodeCalls.pruneLadder;

/**
 * Writes a model folder in other dtypes, under the names that its runtime looks for: `prune` with nothing removed. Each map's
 * rounding makes up for its own errors where the model's predictions feel them.
 *
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when aborted.
 * @example
 * await quantize({ model: './model', out: './small', dtype: ['q4', 'fp16'] });
 */
export const quantize = nodeCalls.quantize;

/**
 * Makes the best model of a size: what each neuron, head, expert and bit costs in divergence for a byte is measured on the dense model,
 * mixtures of them are tried on held-out windows, and the best one is written. It is no worse there than the best single reduction.
 *
 * @returns a report for each size, in their order.
 * @throws OptionError, also for a size that cannot be met, naming the smallest that can; ModelFormatError, UnsupportedModelError,
 *   NumericalError, EngineError; the signal's reason when aborted.
 * @example
 * const [report] = await shrink({ model: './model', out: './smaller', targetSize: '60MB', text: 'mine.txt' });
 */
export const shrink = nodeCalls.shrink;

/**
 * Tells in seconds which sizes `shrink` can make of a model, what each dtype takes, and how long it takes; from statistics that
 * `observe` wrote also which mixture is best at each size. No text is read, and nothing is written.
 *
 * @throws OptionError, also for a size that cannot be met; ModelFormatError, UnsupportedModelError, EngineError, as the run would.
 * @example
 * const { smallest, dtypes, ms } = await planShrink({ model: './model', targetSize: '60MB' });
 */
export const planShrink = nodeCalls.planShrink;

/**
 * Makes a model in q8, q4 and several sizes, measures bits per byte of a text and speed of all of them, and recommends the smallest that
 * loses little.
 *
 * @returns what was measured, the dense model first.
 * @throws what `quantize`, `shrink` and `evaluateModels` throw
 * @example
 * const { models, recommended } = await choose({ model: './model', out: './sizes', text: 'mine.txt', test: 'other.txt' });
 */
export const choose = nodeCalls.choose;

/**
 * Collects the statistics of a dense model that pruning reads, so that `prune({ statistics })` can prune at any
 * sparsity, and by every method that reads no more, without running the model on text again. What is seen is what `method`
 * needs, `metric` and `grouping` added to it: `{ method: 'o-fang', metric: 'divergence' }` sees what any method reads. The files
 * appear under their names when they are complete.
 *
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when aborted.
 * @example
 * await observe({ model: './model', out: './statistics' });
 * await prune({ model: './model', out: './smaller', sparsity: 0.3, statistics: './statistics' });
 */
export const observe = nodeCalls.observe;

/**
 * Joins the statistics of all shards that `observe({ shard })` made on several machines, in any order of the files:
 * `prune({ statistics })` prunes from the result.
 *
 * @throws OptionError naming a shard that is missing, doubled, or of another observation; ModelFormatError naming a damaged file; the
 *   signal's reason when aborted.
 * @example
 * await observe({ model: './model', out: './shard-1', shard: '1/2' });
 * await observe({ model: './model', out: './shard-2', shard: '2/2' });
 * await mergeStatistics({ shards: ['./shard-1', './shard-2'], out: './statistics' });
 */
export const mergeStatistics = nodeCalls.mergeStatistics;

/**
 * Prunes a model as another run did, from its recipe: no calibration, the same bytes.
 *
 * @throws OptionError when the model is not the recipe's, or `out` exists; ModelFormatError when the recipe is damaged or
 *   gives another result than it was made from; UnsupportedModelError, EngineError.
 * @example
 * await prune({ model: './model', out: './smaller', sparsity: 0.3, recipe: './recipe' });
 * await applyRecipe({ model: './copy-of-model', recipe: './recipe', out: './the-same' });
 */
export const applyRecipe = nodeCalls.applyRecipe;

/**
 * Trains a pruned model on what the dense one predicts, on text that the dense model writes, and writes the result. What it
 * cannot better on windows held out for it, it leaves as it was.
 *
 * @throws OptionError, ModelFormatError; UnsupportedModelError when the pruned model does not come from the dense one, or an
 *   operator has no gradient; NumericalError when training diverges; EngineError; the signal's reason when aborted.
 * @example
 * await heal({ dense: './model', pruned: './smaller', out: './healed', heal: { windowCount: 64 } });
 */
export const heal = nodeCalls.heal;

/**
 * Takes tokens out of a model's vocabulary: their rows in the embedding and the LM head, and what files say of them. Tokens of the
 * languages named remain, or those that merges make first, or those of a list. The logits of remaining tokens keep their bits, and any
 * text can still be encoded.
 *
 * @throws OptionError; ModelFormatError when tokenizer.json is another model's; UnsupportedModelError for a tokenizer or a graph that
 *   cannot be trimmed; NumericalError, EngineError; the signal's reason when aborted.
 * @example
 * const { rows, bytes } = await trimVocabulary({ model: './model', out: './smaller', keepLanguages: ['en', 'de'] });
 */
export const trimVocabulary = nodeCalls.trimVocabulary;

/**
 * Describes a model: its blocks, widths, heads, and what can be pruned; for the rest the reason, the node and the nearest
 * structure. No weight is read.
 * @throws OptionError, ModelFormatError, UnsupportedModelError
 */
export const describe = nodeCalls.describe;

/**
 * Perplexity of a model folder on a text. The result carries its protocol, without which no two figures compare.
 * @throws OptionError for a text too short, a missing tokenizer or BOS token; ModelFormatError, EngineError, NumericalError.
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

/** Lets a model folder continue a prompt, with its KV cache where the graph has one. @throws OptionError, EngineError */
export const generateText = nodeCalls.generateText;

/**
 * Measures models on texts and tasks, each model loaded once.
 *
 * @returns In the order of the models.
 * @throws OptionError for a malformed task line, naming file and line, a text too short, a missing tokenizer, or a file of
 * other scores; ModelFormatError, UnsupportedModelError, EngineError, NumericalError.
 */
export const evaluateModels = nodeCalls.evaluateModels;

/** Compares evaluations that lie in files. @throws OptionError */
export const compareFiles = nodeCalls.compareFiles;

/**
 * Compares what pruning costs on the calibration text and on another one, context by context: a calibration that never
 * saw a kind of text can cost much there without any figure on its own text showing it.
 *
 * @throws OptionError for a text shorter than a window; ModelFormatError, UnsupportedModelError, EngineError, NumericalError.
 * @example
 * const { warnings } = await measureCalibrationBias({ dense: 'model', pruned: 'smaller', text: 'my-domain.txt' });
 */
export const measureCalibrationBias = nodeCalls.measureCalibrationBias;

/**
 * Draws a report's page again, with measurements added to it.
 * @throws OptionError when there is no report, or a file holds no measurements of its models; ModelFormatError for files
 *   that are not JSON, of more than 32 MiB, or a report of another version; the signal's reason when aborted.
 * @example
 * await rebuildReport({ report: 'smaller', add: ['eval.json'] });
 */
export const rebuildReport = nodeCalls.rebuildReport;

/**
 * Uploads a folder that a run wrote to the Hugging Face Hub, in one commit, with a page that says what it is. Nothing but what its
 * manifest lists goes, and report and calibration windows only where they are asked for.
 *
 * @throws OptionError for a folder that no run wrote; ModelFormatError when a file is not as it was written; HubError.
 * @example
 * const { commit } = await push({ folder: './smaller', repo: 'me/smaller', create: true });
 */
export const push = nodeCalls.push;

/**
 * Finds a model and what belongs to it; one of the Hub is downloaded first, as far as the cache lacks it.
 * @param path a folder in transformers.js or onnxruntime-genai layout, an `.onnx` file, or a model of the Hub, `org/name`
 * @throws OptionError saying what was looked for when nothing is found; UnsupportedModelError for an encoder-decoder, or where
 * all there are hold quantised weights.
 * @throws ModelFormatError when a JSON file is damaged.
 */
export const openModelFolder = (path: string, options: OpenModelOptions = {}) =>
  openFolder(nodePlatform, path, options);
