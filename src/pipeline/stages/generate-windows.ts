import type { WindowShape } from '../../calibration/cut-windows.js';
import { describeGenerated, type GeneratedSet } from '../../calibration/generated-set.js';
import { findEndTokens, findStartToken, requireStartToken, type TokenHints } from '../../calibration/start-token.js';
import type { Tokenizer } from '../../calibration/tokenizer.js';
import { EngineError, type FangPruneError, OptionError, UnsupportedModelError } from '../../errors.js';
import { generateCalibration, type WindowStore } from '../../evaluation/generate-calibration.js';
import type { OnnxModel } from '../../onnx/onnx-model.js';
import type { ResolvedGenerate } from '../../options/calibration.js';
import type { Journal } from '../../platform/journal.js';
import type { Engine } from '../../runtime/engine.js';
import { hashFiles } from '../../storage/hash-files.js';
import { decoderConfig, type ModelFolder, runPaths, totalBytes } from '../../storage/model-folder.js';
import { formatWindowsFile, openWindowsFile } from '../../storage/windows-file.js';
import type { JobContext } from '../job-context.js';
import { openLanguageModel } from '../open-language-model.js';

/** What a model needs to write windows. */
export interface GenerateInput extends WindowShape {
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
 * Has a model write windows, going on from `generate.file` where that is given.
 * @throws OptionError, UnsupportedModelError, EngineError
 */
async function generateWindows(context: JobContext, input: GenerateInput): Promise<WrittenWindows> {
  const { platform, signal } = context;
  const { generate, windowLength } = input;
  const hints = hintsOf(input);
  const { temperature, seed = input.seed, startToken = requireStartToken(hints), file } = generate;
  const paths = runPaths(input.folder, input.model);
  const origin = { modelSha256: await hashFiles(platform, paths, signal), seed, startToken, temperature, windowLength };
  const store =
    file === undefined ? await openKeptWindows(context.journal) : await openWindowsFile(platform.files, file, origin);
  const drawing = { seed, startToken, temperature };
  const cacheLimitBytes = Math.max(LEAST_CACHE_BYTES, (await totalBytes(platform, paths)) * CACHE_FRACTION);
  const generated = await writeWindows(context, input, {
    ...drawing,
    endTokens: findEndTokens(hints),
    store,
    cacheLimitBytes,
  });
  return { ...generated, windowsFile: formatWindowsFile(generated.windows, origin) };
}

/** Windows in the journal, batch by batch. */
async function openKeptWindows(journal: Journal | undefined): Promise<WindowStore | undefined> {
  if (journal === undefined) return undefined;
  const windows: Int32Array[] = [];
  for await (const part of (await journal.read('windows')) ?? []) windows.push(part as Int32Array);
  return {
    kept: [...windows],
    async append(added) {
      windows.push(...added);
      await journal.write('windows', windows);
    },
  };
}

/**
 * The same, but gives the error back when it is for want of something in the model. Whatever else goes wrong (a file of
 * another run, a full disk) is thrown.
 */
export async function tryToGenerate(
  context: JobContext,
  input: GenerateInput,
): Promise<WrittenWindows | FangPruneError> {
  try {
    return await generateWindows(context, input);
  } catch (error) {
    if (isModelsFault(error, input)) return error;
    throw error;
  }
}

/** Whether an error is for want of something in the model. */
function isModelsFault(error: unknown, input: GenerateInput): error is FangPruneError {
  const lacksStart = input.generate.startToken === undefined && findStartToken(hintsOf(input)) === undefined;
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

async function writeWindows(
  { onProgress, signal }: JobContext,
  { engine, folder, windowCount, windowLength, generate }: GenerateInput,
  options: WritingOptions,
): Promise<GeneratedSet> {
  const { kept = [] } = options.store ?? {};
  // Nothing to write: the model need not be loaded.
  if (kept.length >= windowCount) return describeGenerated(kept.slice(0, windowCount), options);
  const model = await openLanguageModel(engine, folder);
  try {
    const { batchSize } = generate;
    return await generateCalibration(model, { ...options, windowCount, windowLength, batchSize, onProgress, signal });
  } finally {
    await model.release();
  }
}

/** What names special tokens, the most trusted configuration first. */
function hintsOf({ folder: { documents }, tokenizer, vocabularySize }: GenerateInput): TokenHints {
  const genai = documents['genai_config.json']?.model as Record<string, unknown> | undefined;
  const configs = [documents['generation_config.json'], decoderConfig(documents), genai];
  return { configs: configs.filter((config) => config !== undefined), tokenizer, vocabularySize };
}
