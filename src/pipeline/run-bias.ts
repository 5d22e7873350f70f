import { type CalibrationSet, createCalibrationSet } from '../calibration/calibration-set.js';
import { sha256OfTokens } from '../calibration/sha256.js';
import { OptionError } from '../errors.js';
import { collectContexts } from '../evaluation/collect-contexts.js';
import { measureBias, type ScoredText } from '../evaluation/measure-bias.js';
import { takeEvenly } from '../evaluation/take-evenly.js';
import { measureTokenLosses } from '../evaluation/token-losses.js';
import { sum } from '../linalg/sum.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { BIAS } from '../options/commands.js';
import { checkOptions, defaultsOf, type OptionsOf, rowsOf } from '../options/option.js';
import type { CONTEXTS } from '../options/single-calls.js';
import type { ReadingOptions } from '../options/texts.js';
import { type CalibrationOptions, resolveCalibration } from '../options.js';
import type { JobControl } from '../progress.js';
import { type Decode, describeContexts } from '../report/describe-contexts.js';
import { perplexityMetric } from '../report/perplexity-metric.js';
import type { BiasReport, MetricReport } from '../report/report-schema.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import type { Engine } from '../runtime/engine.js';
import type { EngineChoice, Platform } from '../runtime/platform.js';
import { requireTokenizer } from '../storage/load-tokenizer.js';
import type { ModelFolder, SourceOptions } from '../storage/model-folder.js';
import { MAX_REPORT_BYTES, readJsonFile } from '../storage/read-json.js';
import { openTextSource } from '../storage/read-text.js';
import { REPORT_NAME } from '../storage/write-report.js';
import { withJob } from './job-context.js';
import { withLanguageModel } from './open-language-model.js';
import { analyse } from './stage-analyse.js';
import { calibrate } from './stage-calibrate.js';
import { load } from './stage-load.js';
import { open } from './stage-open.js';
import { withTextContext } from './with-text-context.js';

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
    const calibration = await calibrate.run(context, {
      folder,
      model,
      engine,
      calibration: resolveCalibration(request.calibration),
      vocabularySize,
      seed,
    });
    const source = await openTextSource(platform.files, request.text);
    const { windowLength } = calibration;
    const text = await withTextContext(request.text, () =>
      createCalibrationSet({ source, windowCount, windowLength, tokenizer, vocabularySize, signal }),
    );
    const found = await compareTexts({
      engine,
      dense: { folder, model, analysed },
      pruned,
      name: request.text,
      text,
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
    return { ...found, warnings: [...mismatch, ...found.warnings] };
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

interface ComparisonJob extends JobControl {
  readonly engine: Engine;
  readonly dense: { readonly folder: ModelFolder; readonly model: OnnxModel; readonly analysed: AnalysedModel };
  readonly pruned: ModelFolder;
  readonly name: string;
  readonly text: CalibrationSet;
  /** Calibration windows of the text's window length. */
  readonly calibration: readonly Int32Array[];
  /** Number of evenly spaced calibration windows to read. */
  readonly windowCount: number;
  readonly block?: number | undefined;
  readonly contextCount?: number | undefined;
  readonly seed: number;
  /** Decodes quoted text; absent: no text is quoted. */
  readonly decode?: Decode | undefined;
}

/**
 * Runs the dense and the pruned model on both texts, one in memory at a time, and compares their losses per token.
 * @throws EngineError, NumericalError, UnsupportedModelError; OptionError for a block that does not exist, or a model of another vocabulary.
 */
async function compareTexts(job: ComparisonJob): Promise<BiasResult> {
  const { engine, dense, name, block, contextCount, seed, onProgress, signal, decode } = job;
  const both = [takeEvenly(job.calibration, job.windowCount), job.text.windows];
  const before = await readAll(job, dense.folder, both);
  const after = await readAll(job, job.pruned, both);
  const scored = both.map((windows, at): ScoredText => ({ windows, dense: before[at]!, pruned: after[at]! }));
  const [calibration, text] = scored as [ScoredText, ScoredText];
  const windows = both.flat();
  const request = { engine, model: dense.model, analysed: dense.analysed, windows, block, contextCount, seed };
  const contexts = await collectContexts({ ...request, onProgress, signal });
  return {
    name,
    block: contexts.block,
    windowLength: windows[0]?.length ?? 0,
    ...measureBias({ ...contexts, calibration, text, calibratedOn: job.calibration }),
    described: describeContexts({ contexts, windows, decode }),
    perplexity: await perplexityOf(job, text),
  };
}

/** Losses of one model on each list of windows. */
function readAll(
  { engine, signal, onProgress }: ComparisonJob,
  folder: ModelFolder,
  texts: readonly (readonly Int32Array[])[],
): Promise<Float32Array[]> {
  return withLanguageModel(engine, folder, { signal }, async (model) => {
    const { vocabularySize = Number.POSITIVE_INFINITY } = model;
    if (texts.flat().some((window) => window.some((token) => token >= vocabularySize)))
      throw new OptionError(
        `${folder.root} has a vocabulary of ${vocabularySize} tokens, and the text has others; give models of one vocabulary`,
      );
    const losses: Float32Array[] = [];
    for (const windows of texts) losses.push(await measureTokenLosses(model, windows, { signal, onProgress }));
    return losses;
  });
}

async function perplexityOf(
  { name, text: { provenance } }: ComparisonJob,
  { windows, dense, pruned }: ScoredText,
): Promise<MetricReport> {
  const { textSha256 } = provenance;
  const windowLength = windows[0]!.length;
  const tokenCount = windowLength - 1;
  const protocol = {
    tokensSha256: await sha256OfTokens(windows),
    ...(textSha256 !== undefined && { textSha256 }),
    windowLength,
    stride: windowLength,
    windowCount: windows.length,
    tokenCount: dense.length,
  };
  const measured = (losses: Float32Array) => ({
    perplexity: Math.exp(sum(losses) / losses.length),
    windows: windows.map((_, at) => ({
      nll: sum(losses.subarray(at * tokenCount, (at + 1) * tokenCount)),
      tokenCount,
    })),
    protocol,
  });
  return perplexityMetric(name, measured(dense), measured(pruned));
}
