import { createCalibrationSet } from '../calibration/calibration-set.js';
import { BIAS } from '../options/commands.js';
import { checkOptions, defaultsOf, type OptionsOf, rowsOf } from '../options/option.js';
import type { CONTEXTS } from '../options/single-calls.js';
import type { ReadingOptions } from '../options/texts.js';
import { type CalibrationOptions, resolveCalibration } from '../options.js';
import type { JobControl } from '../progress.js';
import type { BiasReport, MetricReport } from '../report/report-schema.js';
import type { EngineChoice, Platform } from '../runtime/platform.js';
import { requireTokenizer } from '../storage/load-tokenizer.js';
import type { ModelFolder, SourceOptions } from '../storage/model-folder.js';
import { MAX_REPORT_BYTES, readJsonFile } from '../storage/read-json.js';
import { openTextSource } from '../storage/read-text.js';
import { REPORT_NAME } from '../storage/write-report.js';
import { compareOnTexts } from './compare-texts.js';
import { withJob } from './job-context.js';
import { analyse } from './stage-analyse.js';
import { calibrate } from './stage-calibrate.js';
import { load } from './stage-load.js';
import { open } from './stage-open.js';

export interface BiasRequest
  extends JobControl,
    SourceOptions,
    ReadingOptions,
    EngineChoice,
    OptionsOf<typeof CONTEXTS> {
  /** The dense model. */
  readonly dense: string;
  /** The pruned model. */
  readonly pruned: string;
  /** Text to compare with the calibration: a `.txt` or `.jsonl` file. */
  readonly text: string;
  /** Calibration of the model, as in `prune`; the default is a bundled text. */
  readonly calibration?: CalibrationOptions | undefined;
  /** Windows to read of each text, at least 1. Default 16. */
  readonly windowCount?: number | undefined;
}

/** A bias with the text's perplexities. */
export interface BiasResult extends BiasReport {
  readonly perplexity: MetricReport;
}

/** Opens, loads, analyses and calibrates; then both models read both texts. */
export async function runBias(platform: Platform, given: BiasRequest): Promise<BiasResult> {
  const request = checkOptions(given, rowsOf(BIAS));
  const { windowCount, seed, embeddings, offline, bos } = { ...defaultsOf(rowsOf(BIAS)), ...request };
  const engine = await platform.createEngine(request);
  return withJob(platform, request, async (context) => {
    const { onProgress, signal } = context;
    const folder = await open.run(context, { model: request.dense, embeddings, offline, bos });
    const pruned = await open.run(context, { model: request.pruned, embeddings, offline, bos });
    const tokenizer = await requireTokenizer(folder, 'a second text');
    const model = await load.run(context, folder);
    const analysed = await analyse.run(context, { model, engine });
    const { vocabularySize } = analysed.detected.layout;
    const { positionCount } = analysed;
    const calibration = await calibrate.run(context, {
      folder,
      model,
      engine,
      calibration: resolveCalibration(request.calibration),
      vocabularySize,
      positionCount,
      seed,
    });
    const text = await createCalibrationSet({
      source: await openTextSource(platform.files, request.text),
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
      texts: [{ name: request.text, windows: text.windows, textSha256: text.provenance.textSha256 }],
      calibration: calibration.windows,
      windowCount,
      block: request.block,
      contextCount: request.contextCount,
      seed,
      decode: request.quoteText === false ? undefined : (tokens) => tokenizer.decode(tokens),
      onProgress,
      signal,
    });
    const mismatch = await findMismatch(pruned, calibration.provenance.tokensSha256);
    const [found] = bias;
    return { ...found!, warnings: [...mismatch, ...found!.warnings], perplexity: metrics[0]! };
  });
}

/** Warns if the report next to the pruned model has another calibration. */
async function findMismatch({ platform: { files }, root }: ModelFolder, tokensSha256: string): Promise<string[]> {
  const report = await readJsonFile(files, files.resolve(root, `${REPORT_NAME}.json`), MAX_REPORT_BYTES).catch(
    () => undefined,
  );
  const recorded = Object(report?.calibration).tokensSha256 as unknown;
  if (typeof recorded !== 'string' || recorded === tokensSha256) return [];
  return [
    "the given calibration differs from the one in the pruned model's report: give the calibration text, windows and " +
      'window length of prune, or the comparison is with a text that pruning did not read',
  ];
}
