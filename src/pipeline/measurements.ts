import type { Tokenizer } from '../calibration/tokenizer.js';
import type { LanguageModel } from '../evaluation/language-model.js';
import { type DivergenceResult, type DivergenceScore, measureDivergence } from '../evaluation/measure-divergence.js';
import { measureTask } from '../evaluation/measure-task.js';
import { measureTextPerplexity, type PerplexityResult, type WindowScore } from '../evaluation/perplexity.js';
import type { ScoredRun } from '../evaluation/score-lines.js';
import type { ScoreLog } from '../evaluation/score-log.js';
import { cutScoredWindows, resolveWindows, tokensNeeded, type WindowOptions } from '../evaluation/scored-windows.js';
import type { TaskItem } from '../evaluation/task-items.js';
import type { ItemScore, TaskResult } from '../evaluation/task-result.js';
import type { JobControl } from '../progress.js';
import type { Engine } from '../runtime/engine.js';
import type { TaskFile } from '../storage/task-file.js';
import { withTextContext } from './with-text-context.js';

/** A text with its name. */
export interface NamedText {
  readonly name: string;
  readonly sha256: string;
  readonly text: string;
}

/** Encoding of task items. */
export interface TaskEncoding {
  /** Delimiter between context and continuation. Default: a space. @see EncodingOptions */
  readonly delimiter?: string | undefined;
}

/** Protocol of a task; only results with equal protocols are comparable. */
export interface TaskProtocol {
  readonly taskSha256: string;
  readonly delimiter: string;
  /** Whether contexts began with the tokens that the tokenizer puts before a text. */
  readonly bos: boolean;
  /** Context length that contexts were cut to; absent if unknown. */
  readonly contextLength?: number;
}

export type TextPerplexity = { readonly text: string } & PerplexityResult;
export type TextDivergence = { readonly text: string; readonly reference: string } & DivergenceResult;
export type TaskReport = { readonly file: string; readonly protocol: TaskProtocol } & TaskResult;

/** Measurements of one model. */
export interface Measured {
  readonly perplexity: TextPerplexity[];
  readonly divergence: TextDivergence[];
  readonly tasks: TaskReport[];
}

/** Context of a measurement. */
export interface MeasuringContext extends JobControl {
  readonly engine: Engine;
  readonly model: LanguageModel;
  readonly tokenizer: Tokenizer;
  readonly reference: LanguageModel | undefined;
  readonly logOf: <T extends { readonly index: number }>() => ScoreLog<T> | undefined;
}

/** A measurement of a model on one text or task. */
export interface Measurement extends Pick<ScoredRun, 'kind' | 'source' | 'sourceSha256' | 'protocol'> {
  /** Stage name of the progress. */
  readonly stage: string;
  /** Tokens to read, and the number of models that read them. */
  work(tokenizer: Tokenizer): { readonly tokenCount: number; readonly modelCount: number };
  /** Measures, and adds the result. */
  measure(context: MeasuringContext, into: Measured): Promise<void>;
}

export function perplexityOf({ name, sha256, text }: NamedText, windows: WindowOptions): Measurement {
  const { windowCount: _, contextLength: __, ...protocol } = windows;
  return {
    kind: 'perplexity',
    stage: 'perplexity',
    work: (tokenizer) => ({ tokenCount: countTokens(text, tokenizer, windows), modelCount: 1 }),
    source: name,
    sourceSha256: sha256,
    protocol,
    async measure({ model, tokenizer, logOf, onProgress, signal }, { perplexity }) {
      const options = { ...windows, log: logOf<WindowScore>(), onProgress, signal };
      const result = await withTextContext(name, () => measureTextPerplexity(model, { text, tokenizer }, options));
      perplexity.push({ text: name, ...result });
    },
  };
}

/** @param reference Its name. */
export function divergenceOf(
  { name, sha256, text }: NamedText,
  windows: WindowOptions,
  reference: string,
): Measurement {
  const { stride: _, ...shape } = windows;
  const { windowCount: __, contextLength: ___, ...protocol } = shape;
  return {
    kind: 'divergence',
    stage: 'divergence',
    work: (tokenizer) => ({ tokenCount: countTokens(text, tokenizer, shape), modelCount: 2 }),
    source: name,
    sourceSha256: sha256,
    protocol,
    async measure({ engine, model, tokenizer, logOf, onProgress, signal, ...context }, { divergence }) {
      const models = { engine, model, reference: context.reference! };
      const options = { ...shape, log: logOf<DivergenceScore>(), onProgress, signal };
      const result = await withTextContext(name, () =>
        measureDivergence(models, tokenizer.encode(text, { enough: tokensNeeded(shape) }), options),
      );
      divergence.push({
        text: name,
        reference,
        ...result,
        protocol: { ...result.protocol, textSha256: sha256 },
      });
    },
  };
}

/** @param contextLength Context length of the model, if known. */
export function taskOf(
  { name, sha256, items }: TaskFile,
  { delimiter = ' ', bos }: TaskEncoding & { readonly bos: boolean },
  contextLength: number | undefined,
): Measurement {
  const protocol = { delimiter, bos, ...(contextLength !== undefined && { contextLength }) };
  return {
    kind: 'task',
    stage: items[0]?.kind ?? 'multiple-choice',
    work: () => ({ tokenCount: countCharacters(items) / CHARACTERS_PER_TOKEN, modelCount: 1 }),
    source: name,
    sourceSha256: sha256,
    protocol,
    async measure({ model, tokenizer, logOf, onProgress, signal }, { tasks }) {
      const options = { tokenizer, delimiter, contextLength, log: logOf<ItemScore>() };
      const result = await measureTask(model, items, { ...options, onProgress, signal });
      tasks.push({ file: name, protocol: { taskSha256: sha256, ...protocol }, ...result });
    },
  };
}

/** Tokens of a text's windows, for estimates; errors are reported by the measurement. */
function countTokens(text: string, tokenizer: Tokenizer, options: WindowOptions): number {
  try {
    const tokens = Int32Array.from(tokenizer.encode(text, { enough: tokensNeeded(options) }));
    const windows = cutScoredWindows(tokens, resolveWindows(options, tokens.length)).slice(0, options.windowCount);
    return windows.reduce((sum, window) => sum + window.tokens.length, 0);
  } catch {
    return 0;
  }
}

/** Approximate, since items are encoded lazily. */
const CHARACTERS_PER_TOKEN = 4;

/** Shared contexts count once. */
const countCharacters = (items: readonly TaskItem[]): number =>
  items.reduce(
    (sum, { candidates }) =>
      sum +
      [...new Set(candidates.map(({ context }) => context))].reduce((all, context) => all + context.length, 0) +
      candidates.reduce((all, { continuation }) => all + continuation.length, 0),
    0,
  );
