import { type CalibrationSet, createCalibrationSet } from '../calibration/calibration-set.js';
import type { WindowShape } from '../calibration/cut-windows.js';
import { mixCalibrationSets } from '../calibration/generated-set.js';
import type { TokenSource } from '../calibration/token-source.js';
import type { Tokenizer } from '../calibration/tokenizer.js';
import { FangPruneError } from '../errors.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { GENERATE_DEFAULTS } from '../options/calibration.js';
import { refusal } from '../options/option.js';
import { type CalibrationSource, PRUNE_DEFAULTS, type ResolvedCalibration } from '../options.js';
import type { Engine } from '../runtime/engine.js';
import type { Platform } from '../runtime/platform.js';
import { findTokenizer } from '../storage/load-tokenizer.js';
import { longestWindow, type ModelFolder } from '../storage/model-folder.js';
import { openTextSource } from '../storage/read-text.js';
import { tryToGenerate } from './generate-windows.js';
import type { JobContext, Stage } from './job-context.js';
import { withTextContext } from './with-text-context.js';

/** Source of calibration windows. */
export interface CalibrateInput {
  readonly folder: ModelFolder;
  readonly model: OnnxModel;
  readonly engine: Engine;
  readonly calibration: ResolvedCalibration;
  /** V, if the graph declares it. */
  readonly vocabularySize: number | undefined;
  /** Largest number of positions of the graph, if known. */
  readonly positionCount: number | undefined;
  /** Default seed. */
  readonly seed: number;
  /** Windows generated earlier in the job with the same settings, from the first. */
  readonly written?: Int32Array[] | undefined;
}

/** Calibration windows of a model. */
export interface CalibrationWindows extends CalibrationSet {
  /** Generated windows as the text of a windows file. */
  readonly windowsFile?: string;
}

/**
 * Makes calibration windows: cut from a text, written by the model itself, or both.
 * @throws OptionError, ModelFormatError, UnsupportedModelError, EngineError.
 */
export const calibrate: Stage<CalibrateInput, CalibrationWindows> = {
  name: 'calibrate',
  async run(context, input) {
    const { calibration } = input;
    const { windowCount, generate } = calibration;
    const tokenizer = await findTokenizer(input.folder);
    const canReadText = calibration.source !== undefined || tokenizer !== undefined;
    const generatedCount = countGenerated(calibration, canReadText);
    const windowLength = chooseWindowLength(input);
    const cut = (count: number) =>
      context.timed('calibrate', () => cutWindows(context, input, { windowCount: count, windowLength, tokenizer }));
    if (generate === undefined) return cut(windowCount);
    // Text first: its errors appear at once, while generation takes minutes.
    const own = generatedCount < windowCount ? await cut(windowCount - generatedCount) : undefined;
    const written = await context.timed('generate', () =>
      tryToGenerate(context, { ...input, windowCount: generatedCount, windowLength, generate, tokenizer }),
    );
    if (!(written instanceof FangPruneError)) {
      const mixed = own === undefined ? written : await mixCalibrationSets(own, written);
      return { ...mixed, windowsFile: written.windowsFile };
    }
    if (!calibration.generateIfPossible || !canReadText) throw written;
    context.remarks.push(
      `calibrated on text alone, since the model cannot write its share of the windows: ${written.message}`,
    );
    return cut(windowCount);
  },
};

/** Number of windows to generate: at least one if any. */
function countGenerated({ windowCount, generate }: ResolvedCalibration, canReadText: boolean): number {
  if (generate === undefined) return 0;
  const share = generate.share ?? (canReadText ? GENERATE_DEFAULTS.share : 1);
  return Math.max(1, Math.round(windowCount * share));
}

interface Cutting extends WindowShape {
  readonly tokenizer: Tokenizer | undefined;
}

async function cutWindows(
  { platform, signal }: JobContext,
  { calibration: { source, selection }, vocabularySize, seed }: CalibrateInput,
  cutting: Cutting,
): Promise<CalibrationSet> {
  const opened = await openSource(platform, source);
  const cut = () => createCalibrationSet({ ...cutting, source: opened, selection, seed, vocabularySize, signal });
  return source !== undefined && 'file' in source ? withTextContext(source.file, cut) : cut();
}

function chooseWindowLength({ folder, positionCount, calibration: { windowLength } }: CalibrateInput): number {
  const standard = PRUNE_DEFAULTS.calibration.windowLength;
  const longest = longestWindow(folder, positionCount) ?? standard;
  const chosen = windowLength ?? Math.min(standard, longest);
  if (chosen <= longest) return chosen;
  throw refusal('calibration.windowLength', `is ${chosen}, but the model reads at most ${longest} tokens`);
}

/** Opens a file source; other sources are checked when read. */
async function openSource(
  { files }: Platform,
  source: CalibrationSource | undefined,
): Promise<TokenSource | undefined> {
  return source !== undefined && 'file' in source ? openTextSource(files, source.file) : source;
}
