import { OptionError } from '../errors.js';
import { generateText as continueText } from '../evaluation/generate.js';
import type { LanguageModel } from '../evaluation/language-model.js';
import { measureTask } from '../evaluation/measure-task.js';
import { measureTextPerplexity, type PerplexityResult } from '../evaluation/perplexity.js';
import { readTaskItems, type TaskItem } from '../evaluation/task-items.js';
import type { TaskResult } from '../evaluation/task-result.js';
import type { JobControl } from '../progress.js';
import { requireTokenizer } from './load-tokenizer.js';
import { contextLength, type ModelFolder, openModelFolder } from './model-folder.js';
import { createNodeEngine, type ExecutionProviderChoice } from './node-engine.js';
import { openLanguageModel } from './open-language-model.js';
import { readLines, readText } from './read-text.js';

/** What every evaluation needs to know. */
export interface EvaluationRequest extends JobControl {
  /** A folder in transformers.js or onnxruntime-genai layout, or an `.onnx` file. */
  readonly model: string;
  /** Default `cpu`. */
  readonly executionProvider?: ExecutionProviderChoice | undefined;
}

export interface PerplexityRequest extends EvaluationRequest {
  /** Text file, UTF-8; or give `text`. */
  readonly file?: string | undefined;
  readonly text?: string | undefined;
  /** Tokens per window, at least 2. Default 512. */
  readonly windowLength?: number | undefined;
  /** Tokens from one window to the next. Default `windowLength`. */
  readonly stride?: number | undefined;
  /** Windows to score, from the start. Default all. */
  readonly windowCount?: number | undefined;
  /** Start every window with the model's BOS token. Default false. */
  readonly bos?: boolean | undefined;
}

/**
 * Perplexity of a model folder on a text. The result carries its protocol, without which no two figures compare.
 * @throws OptionError for a text too short, a missing tokenizer or BOS token; ModelFormatError, EngineError, NumericalError.
 */
export async function perplexity(request: PerplexityRequest): Promise<PerplexityResult> {
  if ((request.file === undefined) === (request.text === undefined)) {
    throw new OptionError('give either file or text to measure perplexity on');
  }
  const text = request.text ?? (await readText(request.file!));
  return withLanguageModel(request, async (model, folder) => {
    const tokenizer = await requireTokenizer(folder, 'perplexity on a text');
    const { windowLength, stride, windowCount, bos, onProgress, signal } = request;
    if (bos && tokenizer.bosTokenId === undefined) {
      throw new OptionError('bos was asked for, but the tokenizer has no token that begins a text');
    }
    return measureTextPerplexity(
      model,
      { text, tokenizer },
      {
        ...(windowLength !== undefined && { windowLength }),
        ...(stride !== undefined && { stride }),
        ...(windowCount !== undefined && { windowCount }),
        ...(bos && { bosTokenId: tokenizer.bosTokenId! }),
        onProgress,
        signal,
      },
    );
  });
}

export interface TasksRequest extends EvaluationRequest {
  /** Items, JSONL: `query, choices, gold`, `contexts, continuation, gold`, or `context, target`. */
  readonly file: string;
  /** Items to measure, from the first. Default all. */
  readonly limit?: number | undefined;
  /** Put between context and continuation. Default one space. @see EncodingOptions */
  readonly delimiter?: string | undefined;
  /** Start every text with the tokenizer's special tokens. Default false. */
  readonly bos?: boolean | undefined;
}

/**
 * Measures a model folder on a task file by the protocol of lm-evaluation-harness.
 * @throws OptionError for a malformed line, naming file and line, or a missing tokenizer; ModelFormatError, EngineError,
 * NumericalError.
 */
export async function evaluateTasks(request: TasksRequest): Promise<TaskResult> {
  const { file, limit, delimiter, bos, onProgress, signal } = request;
  const items = await readItems(file, limit);
  return withLanguageModel(request, async (model, folder) => {
    const tokenizer = await requireTokenizer(folder, 'a task');
    return measureTask(model, items, {
      tokenizer,
      delimiter,
      addSpecialTokens: bos,
      contextLength: contextLength(folder),
      onProgress,
      signal,
    });
  });
}

async function readItems(file: string, limit = Number.POSITIVE_INFINITY): Promise<TaskItem[]> {
  if (limit !== Number.POSITIVE_INFINITY && (!Number.isInteger(limit) || limit < 1)) {
    throw new OptionError(`limit is ${limit}, expected an integer of at least 1`);
  }
  const items: TaskItem[] = [];
  for await (const item of readTaskItems(readLines(file), file)) {
    items.push(item);
    if (items.length >= limit) break;
  }
  return items;
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
  { model: path, executionProvider }: EvaluationRequest,
  use: (model: LanguageModel, folder: ModelFolder) => Promise<T>,
): Promise<T> {
  const engine = await createNodeEngine(executionProvider);
  const folder = await openModelFolder(path);
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
