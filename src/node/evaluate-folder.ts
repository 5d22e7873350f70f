import { OptionError } from '../errors.js';
import type { TextPair } from '../evaluation/encode-pair.js';
import { generateText as continueText } from '../evaluation/generate.js';
import type { LanguageModel } from '../evaluation/language-model.js';
import { type LogLikelihood, measureLogLikelihoods } from '../evaluation/log-likelihood.js';
import { measureTextPerplexity, type PerplexityResult } from '../evaluation/perplexity.js';
import type { JobControl } from '../progress.js';
import { evaluateModels } from './evaluate-models.js';
import { runIsolated } from './isolate.js';
import { requireTokenizer } from './load-tokenizer.js';
import type { TaskEncoding, TaskReport } from './measurements.js';
import { contextLength, type EmbeddingsOption, type ModelFolder, openModelFolder } from './model-folder.js';
import { createNodeEngine, type EngineChoice } from './node-engine.js';
import { openLanguageModel } from './open-language-model.js';
import { readText } from './read-text.js';
import { naming, type TextWindows, windowOptions } from './text-windows.js';

/** What every evaluation needs to know. */
export interface EvaluationRequest extends JobControl, EmbeddingsOption, EngineChoice {
  /** A folder in transformers.js or onnxruntime-genai layout, or an `.onnx` file. */
  readonly model: string;
}

export interface PerplexityRequest extends EvaluationRequest, TextWindows {
  /** Text file, UTF-8; or give `text`. */
  readonly file?: string | undefined;
  readonly text?: string | undefined;
}

/**
 * Perplexity of a model folder on a text. The result carries its protocol, without which no two figures compare.
 * @throws OptionError for a text too short, a missing tokenizer or BOS token; ModelFormatError, EngineError, NumericalError.
 */
export async function perplexity(request: PerplexityRequest): Promise<PerplexityResult> {
  if (request.isolate) return runIsolated('perplexity', request);
  if ((request.file === undefined) === (request.text === undefined)) {
    throw new OptionError('give either file or text to measure perplexity on');
  }
  const text = request.text ?? (await readText(request.file!));
  return withLanguageModel(request, async (model, folder) => {
    const tokenizer = await requireTokenizer(folder, 'perplexity on a text');
    const { onProgress, signal } = request;
    const options = { ...windowOptions(request, tokenizer), onProgress, signal };
    return naming(request.file ?? 'the text', () => measureTextPerplexity(model, { text, tokenizer }, options));
  });
}

export interface TasksRequest extends EvaluationRequest, TaskEncoding {
  /** Items, JSONL: `query, choices, gold`, `contexts, continuation, gold`, or `context, target`. */
  readonly file: string;
  /** Items to measure, from the first. Default all. */
  readonly limit?: number | undefined;
  /** File that keeps every score as it comes. @see EvaluateRequest */
  readonly resume?: string | undefined;
}

/**
 * Measures a model folder on a task file by the protocol of lm-evaluation-harness.
 * @throws OptionError for a malformed line, naming file and line, or a missing tokenizer; ModelFormatError, EngineError,
 * NumericalError.
 */
export async function evaluateTasks({ model, file, ...request }: TasksRequest): Promise<TaskReport> {
  const [evaluation] = await evaluateModels({ ...request, models: [model], tasks: [file] });
  return evaluation!.tasks[0]!;
}

export interface LogLikelihoodRequest extends EvaluationRequest, Pick<TaskEncoding, 'bos'> {
  /** Contexts, and what is measured after each; the continuation brings its space. */
  readonly pairs: readonly TextPair[];
}

/** Log-likelihoods of continuations, in the order of the pairs. @throws OptionError, EngineError, NumericalError */
export async function logLikelihoods(request: LogLikelihoodRequest): Promise<LogLikelihood[]> {
  const { pairs, bos: addSpecialTokens, onProgress, signal } = request;
  return withLanguageModel(request, async (model, folder) => {
    const tokenizer = await requireTokenizer(folder, 'a log-likelihood');
    const options = { tokenizer, addSpecialTokens, contextLength: contextLength(folder), onProgress, signal };
    return measureLogLikelihoods(model, pairs, options);
  });
}

export interface GenerationRequest extends EvaluationRequest {
  readonly prompt: string;
  /** Default 64. */
  readonly maxNewTokens?: number | undefined;
  /** 0 takes the likeliest token each time. Default 0. */
  readonly temperature?: number | undefined;
  /** Seeds the sampling. Default 0. */
  readonly seed?: number | undefined;
}

export interface GenerationSample {
  /** What follows the prompt. */
  readonly text: string;
}

/** Lets a model folder continue a prompt, with its KV cache where the graph has one. @throws OptionError, EngineError */
export async function generateText(request: GenerationRequest): Promise<GenerationSample> {
  if (request.isolate) return runIsolated('generateText', request);
  const { prompt, maxNewTokens = 64, temperature = 0, seed = 0, signal } = request;
  return withLanguageModel(request, async (model, folder) => {
    const tokenizer = await requireTokenizer(folder, 'writing text');
    return {
      text: await continueText(model, {
        tokenizer,
        prompt,
        maxNewTokens,
        temperature,
        seed,
        ...(signal && { signal }),
      }),
    };
  });
}

async function withLanguageModel<T>(
  request: EvaluationRequest,
  use: (model: LanguageModel, folder: ModelFolder) => Promise<T>,
): Promise<T> {
  const engine = await createNodeEngine(request);
  const folder = await openModelFolder(request.model, { embeddings: request.embeddings });
  try {
    const model = await openLanguageModel(engine, folder);
    try {
      return await use(model, folder);
    } finally {
      await model.release();
    }
  } finally {
    await folder.close();
  }
}
