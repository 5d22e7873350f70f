import { checkWindowShape, type WindowShape } from '../calibration/cut-windows.js';
import { describeGenerated, type GeneratedSet } from '../calibration/generated-set.js';
import { OptionError, UnsupportedModelError } from '../errors.js';
import { GENERATE_DEFAULTS, LEAST_TEMPERATURE } from '../options/calibration.js';
import type { JobControl } from '../progress.js';
import { type BatchGenerationOptions, generateBatch } from './generate.js';
import type { LanguageModel } from './language-model.js';

/** Keeps windows as they are finished, so that a later run can go on. */
export interface WindowStore {
  /** Windows of earlier runs with the same model, seed and settings, from the first. */
  readonly kept: readonly Int32Array[];
  /** Takes the windows that come after those it has. */
  append(windows: readonly Int32Array[]): Promise<void>;
}

export interface GenerateCalibrationOptions
  extends WindowShape,
    JobControl,
    Pick<BatchGenerationOptions, 'from' | 'onStep'> {
  /** Token that every window begins with; the model must have been trained to begin texts after it. */
  readonly startToken: number;
  /** Tokens that end a document. A window goes on after them; a model that writes little else is refused. Default none. */
  readonly endTokens?: readonly number[] | undefined;
  /** At least 0.1. Default 1: the model's own distribution, from which nothing is cut. */
  readonly temperature?: number | undefined;
  /** Default 0. Window i draws from its own stream of it. */
  readonly seed?: number | undefined;
  /** Windows written together, at least 1. Default: as many as `cacheLimitBytes` allows, 32 at most. */
  readonly batchSize?: number | undefined;
  /** Keys and values in memory at once; there may be half as much again around them. Default 256 MiB. */
  readonly cacheLimitBytes?: number | undefined;
  /** Default: windows are kept nowhere until all are there. */
  readonly store?: WindowStore | undefined;
}

/** Without a cache every token is read again for every later one: bearable up to here, a day's work at 512. */
const LONGEST_REREAD = 128;

/** Beyond this fraction of end tokens a model does not write text. */
const MOST_END_TOKENS = 0.5;

/** As much as does no harm on a laptop. */
export const CACHE_LIMIT_BYTES = 256 * 2 ** 20;
const LARGEST_BATCH = 32;

/**
 * Has a model write calibration windows: sampled from its own distribution, whole (no top-k, no top-p), each from
 * `startToken`. A window that ends its text goes on with whatever the model puts after it, usually another text.
 *
 * The same seed gives the same windows on the same machine; the batch size changes only the rounding of the logits.
 *
 * @throws OptionError for options out of range.
 * @throws UnsupportedModelError for a model that does little but end its text, and for windows beyond 128 tokens without a
 * KV cache.
 * @see Self-calibration for Language Model Quantization and Pruning (arXiv 2410.17170)
 * @example
 * const set = await generateCalibration(model, { windowCount: 32, windowLength: 512, startToken: 0 });
 */
export async function generateCalibration(
  model: LanguageModel,
  options: GenerateCalibrationOptions,
): Promise<GeneratedSet> {
  checkWindowShape(options);
  const { startToken, temperature = GENERATE_DEFAULTS.temperature, seed = 0, store } = options;
  if (!(temperature >= LEAST_TEMPERATURE)) {
    throw new OptionError(
      `temperature is ${temperature}; expected at least ${LEAST_TEMPERATURE}, for near 0 all windows are the same`,
    );
  }
  checkStartToken(startToken, model.vocabularySize);
  const windows = (store?.kept ?? []).slice(0, options.windowCount);
  if (windows.length < options.windowCount) {
    checkCache(model, options.windowLength);
    await writeMissing(model, windows, { ...options, temperature, seed });
  }
  return describeGenerated(windows, { seed, startToken, temperature });
}

/** Windows to write together: as many as the model and memory allow, in batches of nearly one size. */
export function chooseBatchSize(
  { windowCount, windowLength }: WindowShape,
  { rowLimit = Number.POSITIVE_INFINITY, cacheWidth = 0 }: Pick<LanguageModel, 'rowLimit' | 'cacheWidth'>,
  cacheLimitBytes = CACHE_LIMIT_BYTES,
): number {
  const windowBytes = cacheWidth * Float32Array.BYTES_PER_ELEMENT * windowLength;
  const fitting = Math.max(1, Math.floor(cacheLimitBytes / windowBytes));
  const most = Math.min(LARGEST_BATCH, rowLimit, fitting);
  return Math.ceil(windowCount / Math.ceil(windowCount / most));
}

interface Writing extends GenerateCalibrationOptions {
  readonly temperature: number;
  readonly seed: number;
}

/** Adds windows to `windows` until all are there, batch by batch. */
async function writeMissing(model: LanguageModel, windows: Int32Array[], options: Writing): Promise<void> {
  const { windowCount, windowLength, startToken, store, from, onStep, onProgress, signal } = options;
  const { batchSize = chooseBatchSize(options, model, options.cacheLimitBytes) } = options;
  if (!Number.isInteger(batchSize) || batchSize < 1) {
    throw new OptionError(`batchSize is ${batchSize}, expected an integer of at least 1`);
  }
  const tokensPerWindow = windowLength - 1;
  while (windows.length < windowCount) {
    const first = windows.length;
    const batch = await generateBatch(model, {
      promptIds: [startToken],
      count: Math.min(batchSize, windowCount - first),
      length: windowLength,
      temperature: options.temperature,
      seed: options.seed,
      firstSequence: first,
      ...{ batchSize, from, onStep, signal },
      onProgress: ({ done }) =>
        onProgress?.({
          stage: 'generate',
          done: first * tokensPerWindow + done,
          total: windowCount * tokensPerWindow,
          detail: `${first} of ${windowCount} windows`,
        }),
    });
    checkWritten(batch, [startToken, ...(options.endTokens ?? [])]);
    await store?.append(batch);
    windows.push(...batch);
  }
}

function checkStartToken(startToken: number, vocabularySize = Number.POSITIVE_INFINITY): void {
  if (Number.isInteger(startToken) && startToken >= 0 && startToken < vocabularySize) return;
  const range = Number.isFinite(vocabularySize) ? `from 0 to ${vocabularySize - 1}` : 'from 0';
  throw new OptionError(`calibration.generate.startToken is ${startToken}; expected a token id ${range}`);
}

function checkCache({ hasCache }: LanguageModel, windowLength: number): void {
  if (hasCache || windowLength <= LONGEST_REREAD) return;
  throw new UnsupportedModelError(
    `the model has no KV cache, so writing windows of ${windowLength} tokens would read each token ${Math.round(windowLength / 2)} times over; ` +
      `export it with past key values, take windowLength ${LONGEST_REREAD} or less, or calibrate on a text alone (calibration.generate: false)`,
  );
}

function checkWritten(windows: readonly Int32Array[], endTokens: readonly number[]): void {
  const written = windows.flatMap((window) => [...window.subarray(1)]);
  const ended = written.filter((token) => endTokens.includes(token)).length;
  if (ended <= MOST_END_TOKENS * written.length) return;
  throw new UnsupportedModelError(
    `${ended} of the first ${written.length} tokens that the model wrote after token ${windows[0]?.[0]} end a text; ` +
      'set another calibration.generate.startToken, or calibrate on a text alone (calibration.generate: false)',
  );
}
