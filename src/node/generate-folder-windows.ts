import { stat } from 'node:fs/promises';
import type { WindowShape } from '../calibration/cut-windows.js';
import { describeGenerated, type GeneratedSet } from '../calibration/generated-set.js';
import { findEndTokens, findStartToken, requireStartToken, type TokenHints } from '../calibration/start-token.js';
import type { Tokenizer } from '../calibration/tokenizer.js';
import { EngineError, type FangPruneError, OptionError, UnsupportedModelError } from '../errors.js';
import { generateCalibration, type WindowStore } from '../evaluation/generate-calibration.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { ResolvedGenerate } from '../options/calibration.js';
import type { JobControl } from '../progress.js';
import type { Engine } from '../runtime/engine.js';
import { hashFiles } from './hash-files.js';
import { decoderConfig, type ModelFolder, runPaths } from './model-folder.js';
import { openLanguageModel } from './open-language-model.js';
import { formatWindowsFile, openWindowsFile } from './windows-file.js';

/** What a model folder needs to write windows. */
export interface FolderGeneration extends WindowShape, JobControl {
  readonly folder: ModelFolder;
  readonly model: OnnxModel;
  readonly engine: Engine;
  readonly generate: ResolvedGenerate;
  readonly tokenizer: Tokenizer | undefined;
  readonly vocabularySize: number | undefined;
  /** Where `generate` has none of its own. */
  readonly seed: number;
}

/** Keys and values may take as much as does no harm on a laptop, or what is little beside the weights. */
const LEAST_CACHE_BYTES = 192 * 2 ** 20;
const CACHE_FRACTION = 1 / 4;

/** Windows that a model wrote, and the same as the text of a windows file. */
export interface WrittenWindows extends GeneratedSet {
  readonly windowsFile: string;
}

/**
 * Has a folder's model write windows, going on from `generate.file` where that is given.
 * @throws OptionError, UnsupportedModelError, EngineError
 */
export async function generateFolderWindows(job: FolderGeneration): Promise<WrittenWindows> {
  const { generate, windowLength, signal } = job;
  const hints = hintsOf(job);
  const { temperature, seed = job.seed, startToken = requireStartToken(hints), file } = generate;
  const paths = runPaths(job.folder, job.model);
  const origin = { modelSha256: await hashFiles(paths, signal), seed, startToken, temperature, windowLength };
  const store = file === undefined ? undefined : await openWindowsFile(file, origin);
  const drawing = { seed, startToken, temperature };
  const cacheLimitBytes = Math.max(LEAST_CACHE_BYTES, (await totalBytes(paths)) * CACHE_FRACTION);
  const generated = await writeWindows(job, { ...drawing, endTokens: findEndTokens(hints), store, cacheLimitBytes });
  return { ...generated, windowsFile: formatWindowsFile(generated.windows, origin) };
}

/**
 * The same, but gives the error back when it is for want of something in the model. Whatever else goes wrong (a file of
 * another run, a full disk) is thrown.
 */
export async function tryToGenerate(job: FolderGeneration): Promise<WrittenWindows | FangPruneError> {
  try {
    return await generateFolderWindows(job);
  } catch (error) {
    if (isModelsFault(error, job)) return error;
    throw error;
  }
}

/** Whether an error is for want of something in the model. */
function isModelsFault(error: unknown, job: FolderGeneration): error is FangPruneError {
  const lacksStart = job.generate.startToken === undefined && findStartToken(hintsOf(job)) === undefined;
  return (
    error instanceof UnsupportedModelError ||
    error instanceof EngineError ||
    (error instanceof OptionError && lacksStart)
  );
}

interface WritingOptions {
  readonly seed: number;
  readonly startToken: number;
  readonly temperature: number;
  readonly endTokens: readonly number[];
  readonly store: WindowStore | undefined;
  readonly cacheLimitBytes: number;
}

async function writeWindows(job: FolderGeneration, options: WritingOptions): Promise<GeneratedSet> {
  const { engine, folder, windowCount, windowLength, onProgress, signal } = job;
  const { kept = [] } = options.store ?? {};
  // Nothing to write: the model need not be loaded.
  if (kept.length >= windowCount) return describeGenerated(kept.slice(0, windowCount), options);
  const model = await openLanguageModel(engine, folder);
  try {
    const { batchSize } = job.generate;
    return await generateCalibration(model, { ...options, windowCount, windowLength, batchSize, onProgress, signal });
  } finally {
    await model.release();
  }
}

async function totalBytes(paths: readonly string[]): Promise<number> {
  const sizes = await Promise.all(paths.map(async (path) => (await stat(path)).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** What names special tokens, the most trusted configuration first. */
function hintsOf({ folder: { documents }, tokenizer, vocabularySize }: FolderGeneration): TokenHints {
  const genai = documents['genai_config.json']?.model as Record<string, unknown> | undefined;
  const configs = [documents['generation_config.json'], decoderConfig(documents), genai];
  return { configs: configs.filter((config) => config !== undefined), tokenizer, vocabularySize };
}
