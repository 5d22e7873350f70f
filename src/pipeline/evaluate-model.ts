import { OptionError } from '../errors.js';
import type { TextPair } from '../evaluation/encode-pair.js';
import { generateText } from '../evaluation/generate.js';
import type { LanguageModel } from '../evaluation/language-model.js';
import { type LogLikelihood, measureLogLikelihoods } from '../evaluation/log-likelihood.js';
import { measureTextPerplexity, type PerplexityResult } from '../evaluation/perplexity.js';
import { GENERATE_TEXT, LOG_LIKELIHOOD, PERPLEXITY, TASKS } from '../options/commands.js';
import { checkOptions, type OptionsOf, rowsOf } from '../options/option.js';
import type { SAMPLE } from '../options/single-calls.js';
import type { ReadingOptions, TextWindows } from '../options/texts.js';
import type { Platform } from '../runtime/platform.js';
import { requireTokenizer } from '../storage/load-tokenizer.js';
import type { ModelFolder, ModelRequest } from '../storage/model-folder.js';
import { withJob } from './job-context.js';
import type { TaskEncoding, TaskReport } from './measurements.js';
import { openLanguageModel } from './open-language-model.js';
import { readTexts } from './read-texts.js';
import { runEvaluation } from './run-evaluation.js';
import { open } from './stage-open.js';
import { windowOptions } from './text-windows.js';
import { withTextContext } from './with-text-context.js';

export interface PerplexityRequest extends ModelRequest, TextWindows, ReadingOptions {
  /** Text file, `.txt` or `.jsonl` with lines `{"text": "..."}`, UTF-8; or give `content`. */
  readonly text?: string | undefined;
  /** The text itself; or give its file as `text`. */
  readonly content?: string | undefined;
}

/** Perplexity of a model on a text. */
export async function runPerplexity(platform: Platform, request: PerplexityRequest): Promise<PerplexityResult> {
  checkOptions(request, rowsOf(PERPLEXITY));
  if ((request.text === undefined) === (request.content === undefined)) {
    throw new OptionError('give either text, a file, or content to measure perplexity on');
  }
  const text = request.content ?? (await readTexts(platform.files, request.text!));
  return withLanguageModel(platform, request, async (model, folder) => {
    const tokenizer = await requireTokenizer(folder, 'perplexity on a text');
    const { onProgress, signal } = request;
    const options = { ...(await windowOptions(request, tokenizer, [folder])), onProgress, signal };
    return withTextContext(request.text ?? 'the text', () =>
      measureTextPerplexity(model, { text, tokenizer }, options),
    );
  });
}

export interface TasksRequest extends ModelRequest, TaskEncoding, ReadingOptions {
  /** Items, JSONL: `query, choices, gold`, `contexts, continuation, gold`, or `context, target`. */
  readonly file: string;
  /** Items to measure, from the first. Default all. */
  readonly limit?: number | undefined;
  /** File to which every score is saved. @see EvaluateRequest */
  readonly resume?: string | undefined;
}

/** Measures a model on a task file. */
export async function runTasks(platform: Platform, given: TasksRequest): Promise<TaskReport> {
  checkOptions(given, rowsOf(TASKS));
  const { model, file, ...request } = given;
  const [evaluation] = await runEvaluation(platform, { ...request, models: [model], tasks: [file] });
  return evaluation!.tasks[0]!;
}

export interface LogLikelihoodRequest extends ModelRequest, ReadingOptions {
  /** Contexts with continuations, each of which begins with its space. */
  readonly pairs: readonly TextPair[];
}

/** Log-likelihoods of continuations. */
export async function runLogLikelihoods(platform: Platform, request: LogLikelihoodRequest): Promise<LogLikelihood[]> {
  checkOptions(request, rowsOf(LOG_LIKELIHOOD));
  const { pairs, onProgress, signal } = request;
  return withLanguageModel(platform, request, async (model, folder) => {
    const tokenizer = await requireTokenizer(folder, 'a log-likelihood');
    const contextLength = await folder.longestWindow();
    const options = { tokenizer, contextLength, onProgress, signal };
    return measureLogLikelihoods(model, pairs, options);
  });
}

export interface GenerationRequest extends ModelRequest, ReadingOptions, OptionsOf<typeof SAMPLE> {}

export interface GenerationSample {
  /** Text after the prompt. */
  readonly text: string;
}

/** Lets a model continue a prompt. */
export async function runGeneration(platform: Platform, request: GenerationRequest): Promise<GenerationSample> {
  checkOptions(request, rowsOf(GENERATE_TEXT));
  const { prompt, newTokens = 64, temperature = 0, seed = 0, signal } = request;
  return withLanguageModel(platform, request, async (model, folder) => {
    const tokenizer = await requireTokenizer(folder, 'writing text');
    const contextLength = await folder.longestWindow();
    const options = { tokenizer, contextLength, prompt, newTokens, temperature, seed, signal };
    return { text: await generateText(model, options) };
  });
}

function withLanguageModel<T>(
  platform: Platform,
  request: ModelRequest & ReadingOptions,
  use: (model: LanguageModel, folder: ModelFolder) => Promise<T>,
): Promise<T> {
  return withJob(platform, request, async (context) => {
    const measuring = await platform.createEngine(request);
    const folder = await open.run(context, request);
    const model = await openLanguageModel(measuring, folder, { signal: request.signal });
    context.onEnd(() => model.release());
    return use(model, folder);
  });
}
