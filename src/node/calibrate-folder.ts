import { type CalibrationSet, createCalibrationSet } from '../calibration/calibration-set.js';
import { GENERATE_DEFAULTS } from '../calibration/generate-options.js';
import { mixCalibrationSets } from '../calibration/generated-set.js';
import type { TokenSource } from '../calibration/token-source.js';
import { OptionError, UnsupportedModelError } from '../errors.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { type CalibrationSource, PRUNE_DEFAULTS, type ResolvedCalibration } from '../options.js';
import type { JobControl } from '../progress.js';
import type { Engine } from '../runtime/engine.js';
import { generateFolderWindows } from './generate-folder-windows.js';
import { findTokenizer } from './load-tokenizer.js';
import { contextLength, type ModelFolder } from './model-folder.js';
import { openTextSource } from './read-text.js';

/** What calibration windows are made from. */
export interface FolderCalibration extends JobControl {
  readonly folder: ModelFolder;
  readonly model: OnnxModel;
  readonly engine: Engine;
  readonly calibration: ResolvedCalibration;
  /** V, as far as the graph tells. */
  readonly vocabularySize: number | undefined;
  /** Seed of whatever has none of its own. */
  readonly seed: number;
  /** Runs a stage and takes its time. */
  timed<T>(stage: string, action: () => Promise<T>): Promise<T>;
}

/** Windows, and those among them that the model wrote as the text of a file that they can be read from again. */
export interface FolderWindows extends CalibrationSet {
  readonly windowsFile: string | undefined;
  readonly remarks: readonly string[];
}

/**
 * Makes the calibration windows of a model folder: cut from a text, written by the model itself, or both.
 * @throws OptionError, ModelFormatError, UnsupportedModelError, EngineError.
 */
export async function calibrateFolder(job: FolderCalibration): Promise<FolderWindows> {
  const { folder, calibration, vocabularySize, seed, timed, signal } = job;
  const { source, selection, generate } = calibration;
  const tokenizer = await findTokenizer(folder);
  const canReadText = source !== undefined || tokenizer !== undefined;
  const share = generate === undefined ? 0 : (generate.share ?? (canReadText ? GENERATE_DEFAULTS.share : 1));
  const generatedCount = share === 0 ? 0 : Math.max(1, Math.round(calibration.windowCount * share));
  const windowLength = chooseWindowLength(job);
  const cut = async (windowCount: number) =>
    createCalibrationSet({
      source: await openSource(source),
      windowCount,
      windowLength,
      selection,
      seed,
      tokenizer,
      vocabularySize,
      signal,
    });
  // The text first: what is wrong with it shows in a moment, and sampling takes minutes.
  const ownCount = calibration.windowCount - generatedCount;
  const own = ownCount > 0 ? await timed('calibrate', () => cut(ownCount)) : undefined;
  if (generate === undefined || generatedCount === 0) return { ...own!, windowsFile: undefined, remarks: [] };
  const shape = { windowCount: generatedCount, windowLength };
  try {
    const generated = await timed('generate', () => generateFolderWindows({ ...job, ...shape, generate, tokenizer }));
    const whole = own === undefined ? generated : await mixCalibrationSets(own, generated);
    return { ...whole, windowsFile: generated.windowsFile, remarks: [] };
  } catch (error) {
    const cannot = error instanceof OptionError || error instanceof UnsupportedModelError;
    if (!calibration.generateIfPossible || !cannot || !canReadText) throw error;
    const remarks = [
      `calibrated on text alone, since the model cannot write its half of the windows: ${error.message}`,
    ];
    return { ...(await timed('calibrate', () => cut(calibration.windowCount))), windowsFile: undefined, remarks };
  }
}

function chooseWindowLength({ folder, calibration: { windowLength } }: FolderCalibration): number {
  const standard = PRUNE_DEFAULTS.calibration.windowLength;
  const longest = contextLength(folder) ?? standard;
  const chosen = windowLength ?? Math.min(standard, longest);
  if (chosen <= longest) return chosen;
  throw new OptionError(`windowLength is ${chosen}, but the model reads at most ${longest} tokens`);
}

/** Opens a file; any other source is checked where it is read. */
async function openSource(source: CalibrationSource | undefined): Promise<TokenSource | undefined> {
  if (typeof source !== 'object' || source === null || !('file' in source)) return source;
  if (typeof source.file === 'string') return openTextSource(source.file);
  throw new OptionError(`the calibration file is ${String(source.file)}; expected a path`);
}
