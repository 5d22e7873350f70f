import type { WindowShape } from '../calibration/cut-windows.js';
import {
  describeGenerated,
  type GeneratedSet,
  startOfDocuments,
  type WindowDrawing,
} from '../calibration/generated-set.js';
import { findLeadingTokens } from '../calibration/leading-tokens.js';
import { findEndTokens, findStartToken, requireStartToken, type TokenHints } from '../calibration/start-token.js';
import type { Tokenizer } from '../calibration/tokenizer.js';
import { EngineError, type FangPruneError, NumericalError, OptionError, UnsupportedModelError } from '../errors.js';
import type { SavedBatch } from '../evaluation/generate.js';
import {
  CACHE_LIMIT_BYTES,
  type GenerateCalibrationOptions,
  generateCalibration,
  type WindowStore,
} from '../evaluation/generate-calibration.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { ResolvedGenerate } from '../options/calibration.js';
import type { Engine, Tensor } from '../runtime/engine.js';
import type { Journal } from '../runtime/journal.js';
import { hashFilesCached } from '../storage/hash-files.js';
import { decoderConfig, type ModelFolder, runPaths, totalBytes } from '../storage/model-folder.js';
import { formatWindowsFile, openWindowsFile } from '../storage/windows-file.js';
import type { JobContext } from './job-context.js';
import { withLanguageModel } from './open-language-model.js';
import { refuseTooLarge } from './refuse-too-large.js';

/** Inputs for generating windows. */
export interface GenerateInput extends WindowShape {
  readonly folder: ModelFolder;
  readonly model: OnnxModel;
  readonly engine: Engine;
  readonly generate: ResolvedGenerate;
  readonly tokenizer: Tokenizer | undefined;
  readonly vocabularySize: number | undefined;
  /** Default seed of `generate`. */
  readonly seed: number;
  /** See `CalibrateInput`; unused with a windows file. */
  readonly written?: Int32Array[] | undefined;
}

/** The KV cache may take this fraction of the weights' bytes, if larger than the default limit. */
const CACHE_FRACTION = 1 / 4;

/** Limit if the engine copies inputs: a page's memory then contains the old and the new KV cache. */
const COPIED_CACHE_BYTES = 96 * 2 ** 20;

/** Generated windows, also as the text of a windows file. */
export interface GeneratedWindows extends GeneratedSet {
  /** Text of the windows file. */
  readonly windowsFile: string;
}

/**
 * Generates windows with a model, and resumes from `generate.file` if given.
 * @throws OptionError, UnsupportedModelError, EngineError
 */
async function generateWindows(context: JobContext, input: GenerateInput): Promise<GeneratedWindows> {
  const { platform } = context;
  const { generate, windowLength } = input;
  const hints = hintsOf(input);
  const { temperature, documentLength, seed = input.seed, startToken = requireStartToken(hints), file } = generate;
  const paths = runPaths(input.folder, input.model);
  const leadingTokens = findLeadingTokens(input.tokenizer);
  const sampling = { seed, startToken, temperature, documentLength };
  const isPlain = startOfDocuments({ leadingTokens, startToken }).length === 1;
  const origin = {
    modelSha256: await hashFilesCached(platform, paths, context),
    ...sampling,
    leadingTokens: isPlain ? undefined : leadingTokens,
    windowLength,
  };
  const store =
    file === undefined
      ? await openSavedWindows(context.journal, input.written)
      : await openWindowsFile(platform.files, file, { ...origin, vocabularySize: input.vocabularySize });
  const cacheLimitBytes = input.engine.copiesInputs
    ? COPIED_CACHE_BYTES
    : Math.max(CACHE_LIMIT_BYTES, (await totalBytes(platform, paths)) * CACHE_FRACTION);
  const generated = await generateMissingWindows(context, input, {
    ...sampling,
    leadingTokens,
    endTokens: findEndTokens(hints),
    store,
    cacheLimitBytes,
    ...(await checkpointBatch(context.journal)),
  });
  return { ...generated, windowsFile: formatWindowsFile(generated.windows, origin) };
}

/** Journal entry of the current batch of windows. */
const BATCH = 'writing';

/** First part of the entry; keys and values follow. */
type SavedBatchFacts = Omit<SavedBatch, 'reader'> & { readonly length: number; readonly names: readonly string[] };

/** Saves the current batch with its keys and values, since reading the tokens again would round differently. */
async function checkpointBatch(
  journal: Journal | undefined,
): Promise<Pick<GenerateCalibrationOptions, 'from' | 'onStep'>> {
  if (journal === undefined) return {};
  return {
    from: await readBatch(journal),
    async onStep(save) {
      const { reader, ...batch } = save() ?? {};
      if (reader === undefined) return;
      const tensors = Object.values(reader.tensors);
      const byteLength = tensors.reduce((sum, { data }) => sum + data.byteLength, 0);
      const facts = { ...batch, length: reader.length, names: Object.keys(reader.tensors) };
      if (journal.shouldCheckpoint(byteLength)) await journal.write(BATCH, [facts, ...tensors]);
    },
  };
}

async function readBatch(journal: Journal): Promise<SavedBatch | undefined> {
  const parts: unknown[] = [];
  for await (const part of (await journal.read(BATCH)) ?? []) parts.push(part);
  if (parts.length === 0) return undefined;
  const [{ names, length, ...batch }, ...tensors] = parts as [SavedBatchFacts, ...Tensor[]];
  return { ...batch, reader: { length, tensors: Object.fromEntries(names.map((name, at) => [name, tensors[at]!])) } };
}

/** Windows in memory and, batch by batch, in the journal. @param written windows generated so far */
async function openSavedWindows(journal: Journal | undefined, written: Int32Array[] = []): Promise<WindowStore> {
  if (written.length === 0)
    for await (const part of (await journal?.read('windows')) ?? []) written.push(part as Int32Array);
  return {
    saved: written,
    async append(added) {
      written.push(...added);
      await journal?.write('windows', written);
    },
  };
}

/** Generates windows, but returns the error if the model does not support generation. Other errors are thrown. */
export async function tryToGenerate(
  context: JobContext,
  input: GenerateInput,
): Promise<GeneratedWindows | FangPruneError> {
  try {
    return await generateWindows(context, input);
  } catch (error) {
    if (isUnsupported(error, input)) return error;
    throw error;
  }
}

/** Whether an error means that the model does not support generation. */
function isUnsupported(error: unknown, input: GenerateInput): error is FangPruneError {
  const lacksStart = input.generate.startToken === undefined && findStartToken(hintsOf(input)) === undefined;
  return (
    error instanceof UnsupportedModelError ||
    error instanceof EngineError ||
    error instanceof NumericalError ||
    (error instanceof OptionError && lacksStart)
  );
}

interface WindowGenerationOptions extends WindowDrawing {
  readonly endTokens: readonly number[];
  readonly store: WindowStore | undefined;
  readonly cacheLimitBytes: number;
  readonly from?: SavedBatch | undefined;
  readonly onStep?: GenerateCalibrationOptions['onStep'];
}

async function generateMissingWindows(
  { onProgress, signal }: JobContext,
  { engine, folder, windowCount, windowLength }: GenerateInput,
  options: WindowGenerationOptions,
): Promise<GeneratedSet> {
  const { saved = [] } = options.store ?? {};
  // Without missing windows the model need not be loaded.
  if (saved.length >= windowCount) return describeGenerated(saved.slice(0, windowCount), options);
  await refuseTooLarge(engine, folder);
  return withLanguageModel(engine, folder, { generates: true }, (model) =>
    generateCalibration(model, { ...options, windowCount, windowLength, onProgress, signal }),
  );
}

/** Sources of special tokens, in order of precedence. */
function hintsOf({ folder: { documents }, tokenizer, vocabularySize }: GenerateInput): TokenHints {
  const genai = documents['genai_config.json']?.model as Record<string, unknown> | undefined;
  const configs = [documents['generation_config.json'], decoderConfig(documents), genai];
  return { configs: configs.filter((config) => config !== undefined), tokenizer, vocabularySize };
}
