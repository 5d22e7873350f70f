import type { UnderstoodModel } from '../runtime/analyse-model.js';
import type { PruneJob, StageTiming } from './job.js';
import { measureDivergences } from './measure-divergences.js';
import { roundAgain } from './quantise-model.js';
import type { GriddedWeight, QuantisedModel } from './quantised-model.js';

/** Costs against the dense model, as a mean of KL(dense || model) in nats per token. */
export interface DenseCost {
  /** Windows that rounding did not learn from. */
  readonly windowCount: number;
  /** Of the model as it was pruned, in floats. */
  readonly pruning: number;
  /** Cost that its rounding adds. */
  readonly quantising: number;
  /** Cost that rounding to the nearest levels would add; absent where that was done. */
  readonly nearest?: number;
}

/** The better of two ways of rounding as a whole, and what was found. */
export interface CheckedModel {
  readonly quantised: QuantisedModel;
  /** Absent where there is nothing to compare, or nothing to compare on. */
  readonly cost?: DenseCost;
  readonly timings: readonly StageTiming[];
}

export interface DenseCheck {
  readonly dense: UnderstoodModel;
  readonly leaving: readonly GriddedWeight[];
  readonly quantised: QuantisedModel;
}

/** Windows that are compared at most. */
const MAX_WINDOWS = 2;

/**
 * Logits that lie in memory at most, of two models (100 MiB each), and tokens of each window that are read in any case. All windows are
 * read in one run: a session that runs once is made sooner.
 */
const MAX_LOGITS = 25 * 2 ** 20;
const MIN_TOKENS = 16;

/**
 * Compares a complete quantised model with the dense one, on windows that rounding did not learn from. Where the nearest levels
 * are better there, they are taken: what each linear layer gains by itself need not add up.
 */
export async function checkAgainstDense(job: PruneJob, check: DenseCheck): Promise<CheckedModel> {
  const start = performance.now();
  const found = await compareWithDense(job, check);
  const timings = [...found.quantised.timings, { stage: 'check', ms: performance.now() - start }];
  return { ...found, timings };
}

async function compareWithDense(
  job: PruneJob,
  { dense, leaving, quantised }: DenseCheck,
): Promise<Omit<CheckedModel, 'timings'>> {
  const { layout } = dense.analysed.detected;
  const tokens = Math.max(MIN_TOKENS, Math.floor(MAX_LOGITS / MAX_WINDOWS / layout.vocabularySize));
  const windows = (quantised.heldOut.length > 0 ? quantised.heldOut : job.windows)
    .slice(-MAX_WINDOWS)
    .map((window) => window.subarray(0, tokens));
  if (windows.length === 0 || leaving.length === 0) return { quantised };
  const { analysed, engine, options } = job;
  const nearest = quantised.roundings.size > 0 ? await roundAgain(job, leaving, quantised) : undefined;
  const compared = [job.model, quantised.model, ...(nearest ? [nearest.model] : [])].map((model) => ({
    model,
    analysed,
  }));
  const isUnpruned = job.model === dense.model;
  const models = isUnpruned ? compared.slice(1) : compared;
  const report = (done: number) =>
    options.onProgress?.({ stage: 'compare', done, total: 1 + models.length, detail: 'with the dense model' });
  report(0);
  const site = { engine, windows, signal: options.signal, onModel: report };
  const found = await measureDivergences(dense, models, site);
  const [pruning, rounded, plain] = (isUnpruned ? [0, ...found] : found) as [number, number, number?];
  const shared = { windowCount: windows.length, pruning };
  if (nearest === undefined || plain === undefined)
    return { quantised, cost: { ...shared, quantising: rounded - pruning } };
  if (rounded <= plain)
    return { quantised, cost: { ...shared, quantising: rounded - pruning, nearest: plain - pruning } };
  const remark = `every weight was rounded to nearest: this costs ${plain.toPrecision(3)} nats per token on held-out windows, and rounding with error feedback ${(rounded - plain).toPrecision(2)} more`;
  return {
    quantised: { ...nearest, remarks: [...nearest.remarks, remark] },
    cost: { ...shared, quantising: plain - pruning },
  };
}
