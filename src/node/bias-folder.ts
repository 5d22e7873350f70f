import { join } from 'node:path';
import { createCalibrationSet } from '../calibration/calibration-set.js';
import { OptionError } from '../errors.js';
import { type CalibrationOptions, PRUNE_DEFAULTS, resolveCalibration } from '../options.js';
import type { JobControl } from '../progress.js';
import type { BiasReport, MetricReport } from '../report/report-schema.js';
import { analyseModel } from '../runtime/analyse-model.js';
import { calibrateFolder } from './calibrate-folder.js';
import { compareOnTexts } from './compare-texts.js';
import { runIsolated } from './isolate.js';
import { requireTokenizer } from './load-tokenizer.js';
import { type EmbeddingsOption, openModelFolder } from './model-folder.js';
import { createNodeEngine, type EngineChoice } from './node-engine.js';
import { readJsonFile } from './read-json.js';
import { openTextSource } from './read-text.js';
import { REPORT_NAME } from './write-report.js';

export interface BiasRequest extends JobControl, EmbeddingsOption, EngineChoice {
  /** The model that was pruned, and the result. */
  readonly dense: string;
  readonly pruned: string;
  /** Text to compare with the calibration: a `.txt` or `.jsonl` file. */
  readonly file: string;
  /** What the model was calibrated on, as `prune` was told; the default is the text that comes along. */
  readonly calibration?: CalibrationOptions | undefined;
  /** Windows read of either text, at least 1. Default 16. */
  readonly windowCount?: number | undefined;
  /** Block in whose FFN's input the contexts are seen. Default: the middle one. */
  readonly block?: number | undefined;
  /** Contexts that the tokens of both texts fall into, at least 1. Default 12. */
  readonly contextCount?: number | undefined;
  /** Seeds the clustering. Default 0. */
  readonly seed?: number | undefined;
  /** Quote text to show what contexts are about. Default true. */
  readonly quoteText?: boolean | undefined;
}

export const BIAS_DEFAULTS = { windowCount: 16 } as const;

/** A bias with the text's perplexities. */
export interface BiasResult extends BiasReport {
  readonly perplexity: MetricReport;
}

/**
 * Compares what pruning costs on the calibration text and on another one, context by context: a calibration that never
 * saw a kind of text can cost much there without any figure on its own text showing it.
 *
 * @throws OptionError for a text shorter than a window; ModelFormatError, UnsupportedModelError, EngineError, NumericalError.
 * @example
 * const { warnings } = await measureCalibrationBias({ dense: 'model', pruned: 'smaller', file: 'my-domain.txt' });
 */
export async function measureCalibrationBias(request: BiasRequest): Promise<BiasResult> {
  if (request.isolate) return runIsolated('measureCalibrationBias', request);
  const { windowCount = BIAS_DEFAULTS.windowCount, seed = 0, onProgress, signal } = request;
  if (!Number.isInteger(windowCount) || windowCount < 1) {
    throw new OptionError(`windowCount is ${String(windowCount)}; expected a whole number of at least 1`);
  }
  const engine = await createNodeEngine(request);
  const { embeddings } = request;
  const folder = await openModelFolder(request.dense, { embeddings });
  const pruned = await openModelFolder(request.pruned, { embeddings });
  try {
    const tokenizer = await requireTokenizer(folder, 'a second text');
    const model = await folder.load();
    const analysed = await analyseModel(model, engine, signal);
    const { vocabularySize } = analysed.detected.layout;
    const calibration = await calibrateFolder({
      folder,
      model,
      engine,
      calibration: resolveCalibration(request.calibration, PRUNE_DEFAULTS.calibration),
      vocabularySize,
      positionCount: analysed.positionCount,
      seed,
      timed: (_, action) => action(),
      onProgress,
      signal,
    });
    const text = await createCalibrationSet({
      source: await openTextSource(request.file),
      windowCount,
      windowLength: calibration.windowLength,
      tokenizer,
      vocabularySize,
      signal,
    });
    const { metrics, bias } = await compareOnTexts({
      engine,
      dense: { folder, model, analysed },
      pruned,
      texts: [{ name: request.file, windows: text.windows, textSha256: text.provenance.textSha256 }],
      calibration: calibration.windows,
      windowCount,
      block: request.block,
      contextCount: request.contextCount,
      seed,
      decode: request.quoteText === false ? undefined : (tokens) => tokenizer.decode(tokens),
      onProgress,
      signal,
    });
    const mismatch = await findMismatch(pruned.root, calibration.provenance.tokensSha256);
    const [found] = bias;
    return { ...found!, warnings: [...mismatch, ...found!.warnings], perplexity: metrics[0]! };
  } finally {
    await Promise.all([folder.close(), pruned.close()]);
  }
}

/** A report beside the pruned model tells what it was calibrated on. */
async function findMismatch(root: string, tokensSha256: string): Promise<string[]> {
  const report = await readJsonFile(join(root, `${REPORT_NAME}.json`)).catch(() => undefined);
  const recorded = Object(report?.calibration).tokensSha256 as unknown;
  if (typeof recorded !== 'string' || recorded === tokensSha256) return [];
  return [
    "the calibration given is not the one in the pruned model's report: give prune's calibration text, windows and " +
      'window length, or the comparison is with a text that pruning never saw',
  ];
}
