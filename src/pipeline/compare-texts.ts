import { sha256OfTokens } from '../calibration/sha256.js';
import { collectContexts } from '../evaluation/collect-contexts.js';
import { type BiasInput, measureBias, type ScoredText } from '../evaluation/measure-bias.js';
import { takeEvenly } from '../evaluation/take-evenly.js';
import { measureTokenLosses } from '../evaluation/token-losses.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { JobControl } from '../progress.js';
import { type Decode, describeContexts } from '../report/describe-contexts.js';
import { perplexityMetric } from '../report/perplexity-metric.js';
import type { BiasReport, MetricReport } from '../report/report-schema.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import type { Engine } from '../runtime/engine.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { withLanguageModel } from './open-language-model.js';

/** A text cut into windows. */
export interface ComparedText {
  readonly name: string;
  /** Of equal length. */
  readonly windows: readonly Int32Array[];
  /** Of the entire text, if known. */
  readonly textSha256?: string | undefined;
}

export interface ComparisonJob extends JobControl {
  readonly engine: Engine;
  readonly dense: { readonly folder: ModelFolder; readonly model: OnnxModel; readonly analysed: AnalysedModel };
  readonly pruned: ModelFolder;
  readonly texts: readonly ComparedText[];
  /** Calibration windows of the texts' window length; empty: no bias is measured. */
  readonly calibration: readonly Int32Array[];
  /** Number of evenly spaced calibration windows to read. */
  readonly windowCount: number;
  readonly block?: number | undefined;
  readonly contextCount?: number | undefined;
  readonly seed?: number | undefined;
  /** Decodes quoted text; absent: no text is quoted. */
  readonly decode?: Decode | undefined;
}

/** Result of comparing two models on texts. */
export interface TextComparison {
  /** Perplexities, one per text. */
  readonly metrics: readonly MetricReport[];
  /** One per text, if calibration windows were given. */
  readonly bias: readonly BiasReport[];
}

/**
 * Runs the dense and the pruned model on texts, one in memory at a time, and compares their losses per token.
 * @throws EngineError, NumericalError, UnsupportedModelError; OptionError for a block that does not exist.
 */
export async function compareOnTexts(job: ComparisonJob): Promise<TextComparison> {
  const sample = takeEvenly(job.calibration, job.windowCount);
  const all = [{ windows: sample }, ...job.texts].filter(({ windows }) => windows.length > 0);
  const dense = await readAll(job, job.dense.folder, all);
  const pruned = await readAll(job, job.pruned, all);
  const scored = all.map(({ windows }, at): ScoredText => ({ windows, dense: dense[at]!, pruned: pruned[at]! }));
  const calibration = sample.length > 0 ? scored[0] : undefined;
  const texts = calibration === undefined ? scored : scored.slice(1);
  const metrics: MetricReport[] = [];
  const bias: BiasReport[] = [];
  for (const [at, text] of texts.entries()) {
    metrics.push(await perplexityOf(job.texts[at]!, text));
    if (calibration !== undefined) bias.push(await biasOf(job, job.texts[at]!, { calibration, text }));
  }
  return { metrics, bias };
}

/** Losses of one model on each list of windows. */
function readAll(
  { engine, signal, onProgress }: ComparisonJob,
  folder: ModelFolder,
  texts: readonly Pick<ComparedText, 'windows'>[],
): Promise<Float32Array[]> {
  return withLanguageModel(engine, folder, { signal }, async (model) => {
    const losses: Float32Array[] = [];
    for (const { windows } of texts) losses.push(await measureTokenLosses(model, windows, { signal, onProgress }));
    return losses;
  });
}

async function perplexityOf(
  { name, windows, textSha256 }: ComparedText,
  { dense, pruned }: ScoredText,
): Promise<MetricReport> {
  const windowLength = windows[0]!.length;
  const tokenCount = windowLength - 1;
  const sum = (losses: Float32Array) => losses.reduce((all, loss) => all + loss, 0);
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

async function biasOf(
  job: ComparisonJob,
  { name }: ComparedText,
  scored: Pick<BiasInput, 'calibration' | 'text'>,
): Promise<BiasReport> {
  const { engine, dense, block, contextCount, seed, onProgress, signal, decode } = job;
  const windows = [...scored.calibration.windows, ...scored.text.windows];
  const request = { engine, model: dense.model, analysed: dense.analysed, windows, block, contextCount, seed };
  const contexts = await collectContexts({ ...request, onProgress, signal });
  return {
    name,
    block: contexts.block,
    windowLength: windows[0]?.length ?? 0,
    ...measureBias({ ...contexts, ...scored, calibratedOn: job.calibration }),
    described: describeContexts({ contexts, windows, decode }),
  };
}
