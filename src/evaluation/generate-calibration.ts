import { checkWindowShape, type WindowShape } from '../calibration/cut-windows.js';
import { describeGenerated, type GeneratedSet, splitWindow, startOfDocuments } from '../calibration/generated-set.js';
import { counted } from '../counted.js';
import { OptionError, UnsupportedModelError } from '../errors.js';
import { GENERATE_DEFAULTS, MIN_DOCUMENT_LENGTH, MIN_TEMPERATURE } from '../options/calibration.js';
import type { JobControl } from '../progress.js';
import { type BatchGenerationOptions, checkCount, generateBatch } from './generate.js';
import type { LanguageModel } from './language-model.js';

/** Store for finished windows, so that a later run can resume. */
export interface WindowStore {
  /** Windows of earlier runs with the same model, seed and settings, from the first. */
  readonly saved: readonly Int32Array[];
  /** Appends further windows. */
  append(windows: readonly Int32Array[]): Promise<void>;
}

export interface GenerateCalibrationOptions
  extends WindowShape,
    JobControl,
    Pick<BatchGenerationOptions, 'from' | 'onStep'> {
  /** Token that every document begins with; the model must have been trained to begin texts with it. */
  readonly startToken: number;
  /** Tokens that end a text. A document continues after them; a model that generates little else is refused. Default none. */
  readonly endTokens?: readonly number[] | undefined;
  /** At least 0.1. Default 1: the model's own distribution, without truncation. */
  readonly temperature?: number | undefined;
  /** Largest number of tokens of a document, at least 2; a window concatenates documents of equal length. Default 128. */
  readonly documentLength?: number | undefined;
  /** Default 0. Each document has its own random stream. */
  readonly seed?: number | undefined;
  /** Documents generated together, at least 1. Default: as many as `cacheLimitBytes` allows, up to 32. */
  readonly batchSize?: number | undefined;
  /** Limit of keys and values in memory; copies of them may need half as much again. Default 256 MiB. */
  readonly cacheLimitBytes?: number | undefined;
  /** Store for finished windows. Default: none; windows are only returned. */
  readonly store?: WindowStore | undefined;
}

/** Longest document without a KV cache: each new token reads all earlier ones again (512 would take a day). */
const MAX_REREAD_LENGTH = 128;

/** A model with a larger fraction of end tokens does not generate text. */
const MAX_END_TOKENS = 0.5;

/** Suitable for a laptop. */
export const CACHE_LIMIT_BYTES = 256 * 2 ** 20;
const MAX_BATCH_SIZE = 32;

/**
 * Generates calibration windows with a model: independent documents sampled from its full distribution (no top-k, no
 * top-p), each after `startToken`. A document continues after an end token, usually with another text.
 *
 * The same seed gives the same windows on the same machine; the batch size changes only the rounding of the logits.
 *
 * @throws OptionError for options out of range.
 * @throws UnsupportedModelError for a model that generates mostly end tokens, and for documents beyond 128 tokens
 *   without a KV cache.
 * @see Self-calibration for Language Model Quantization and Pruning (arXiv 2410.17170)
 * @example
 * const set = await generateCalibration(model, { windowCount: 32, windowLength: 512, startToken: 0 });
 */
export async function generateCalibration(
  model: LanguageModel,
  options: GenerateCalibrationOptions,
): Promise<GeneratedSet> {
  checkWindowShape(options);
  const {
    startToken,
    leadingTokens,
    temperature = GENERATE_DEFAULTS.temperature,
    documentLength = GENERATE_DEFAULTS.documentLength,
    seed = 0,
    store,
  } = options;
  if (!(temperature >= MIN_TEMPERATURE)) {
    throw new OptionError(
      `temperature is ${temperature}; expected at least ${MIN_TEMPERATURE}, since near 0 all documents are the same`,
    );
  }
  const start = startOfDocuments(options);
  checkCount('documentLength', documentLength, Math.max(MIN_DOCUMENT_LENGTH, start.length + 1));
  checkStartToken(startToken, model.vocabularySize);
  const windows = (store?.saved ?? []).slice(0, options.windowCount);
  if (windows.length < options.windowCount) {
    const documents = splitWindow(options.windowLength, documentLength);
    checkCache(model, documents.length);
    await generateMissing(model, windows, { ...options, temperature, seed, documents, start });
  }
  return describeGenerated(windows, { seed, startToken, leadingTokens, temperature, documentLength });
}

/** Sequences to generate together: as many as the model and memory allow, in batches of nearly equal size. */
export function chooseBatchSize(
  { count, length }: { readonly count: number; readonly length: number },
  { rowLimit = Number.POSITIVE_INFINITY, cacheWidth = 0 }: Pick<LanguageModel, 'rowLimit' | 'cacheWidth'>,
  cacheLimitBytes = CACHE_LIMIT_BYTES,
): number {
  const sequenceBytes = cacheWidth * Float32Array.BYTES_PER_ELEMENT * length;
  const fitting = Math.max(1, Math.floor(cacheLimitBytes / sequenceBytes));
  const most = Math.min(MAX_BATCH_SIZE, rowLimit, fitting);
  return Math.ceil(count / Math.ceil(count / most));
}

interface DocumentGeneration extends GenerateCalibrationOptions {
  readonly temperature: number;
  readonly seed: number;
  /** Documents per window. */
  readonly documents: ReturnType<typeof splitWindow>;
  /** Leading tokens of each document. */
  readonly start: readonly number[];
}

/** Generates the missing windows and adds them to `windows`, batch by batch. */
async function generateMissing(
  model: LanguageModel,
  windows: Int32Array[],
  options: DocumentGeneration,
): Promise<void> {
  const { windowCount, windowLength, documents, start, store, from, onStep, onProgress, signal } = options;
  const { count, length } = documents;
  const all = { count: windowCount * count, length };
  const { batchSize = chooseBatchSize(all, model, options.cacheLimitBytes) } = options;
  checkCount('batchSize', batchSize);
  const windowsTogether = Math.max(1, Math.floor(batchSize / count));
  const generatedPerWindow = count * (length - start.length);
  while (windows.length < windowCount) {
    const first = windows.length;
    const generated = await generateBatch(model, {
      promptIds: start,
      count: Math.min(windowsTogether, windowCount - first) * count,
      length,
      temperature: options.temperature,
      seed: options.seed,
      firstSequence: first * count,
      batchSize,
      from,
      onStep,
      signal,
      onProgress: ({ done }) =>
        onProgress?.({
          stage: 'generate',
          done: first * generatedPerWindow + done,
          total: windowCount * generatedPerWindow,
          detail: `${first} of ${counted(windowCount, 'window')}`,
        }),
    });
    checkGenerated(generated, start, options.endTokens);
    const filled = fillWindows(generated, count * length, windowLength);
    await store?.append(filled);
    windows.push(...filled);
  }
}

/** Concatenates documents to windows; the last document of a window may be cut. */
function fillWindows(documents: readonly Int32Array[], tokensPerWindow: number, windowLength: number): Int32Array[] {
  const ids = Int32Array.from(documents.flatMap((document) => [...document]));
  return Array.from({ length: ids.length / tokensPerWindow }, (_, index) =>
    ids.slice(index * tokensPerWindow, index * tokensPerWindow + windowLength),
  );
}

function checkStartToken(startToken: number, vocabularySize = Number.POSITIVE_INFINITY): void {
  if (Number.isInteger(startToken) && startToken >= 0 && startToken < vocabularySize) return;
  const range = Number.isFinite(vocabularySize) ? `from 0 to ${vocabularySize - 1}` : 'from 0';
  throw new OptionError(`calibration.generate.startToken is ${startToken}; expected a token id ${range}`);
}

function checkCache({ hasCache }: LanguageModel, documentLength: number): void {
  if (hasCache || documentLength <= MAX_REREAD_LENGTH) return;
  throw new UnsupportedModelError(
    `the model has no KV cache, so generating documents of ${documentLength} tokens would read each token ${Math.round(documentLength / 2)} times; ` +
      `export it with past key values, set documentLength to ${MAX_REREAD_LENGTH} or less, or calibrate on a text alone (calibration.generate: false)`,
  );
}

function checkGenerated(
  documents: readonly Int32Array[],
  start: readonly number[],
  endTokens: readonly number[] = [],
): void {
  const generated = documents.flatMap((document) => [...document.subarray(start.length)]);
  const ended = generated.filter((token) => token === start.at(-1) || endTokens.includes(token)).length;
  if (ended <= MAX_END_TOKENS * generated.length) return;
  throw new UnsupportedModelError(
    `${ended} of the first ${generated.length} tokens that the model generated after token ${start.at(-1)} end a text; ` +
      'set another calibration.generate.startToken, or calibrate on a text alone (calibration.generate: false)',
  );
}
