import type { UnderstoodModel } from '../runtime/analyse-model.js';
import type { PruneJob, StageTiming } from './job.js';
import { measureDivergences } from './measure-divergences.js';
import { roundAgain } from './quantise-model.js';
import type { GriddedWeight, QuantisedModel } from './quantised-model.js';

/** Costs against the dense model, as a mean of KL(dense || model) in nats per token. */
export interface DenseCost {
  /** Windows that rounding did not learn from. */
  readonly windowCount: number;
  /** Of the pruned model, with float weights. */
  readonly pruning: number;
  /** Cost that its rounding adds. */
  readonly quantising: number;
  /** Cost that rounding to the nearest levels would add; absent where all weights are rounded that way. */
  readonly nearest?: number;
}

/** The better of two quantised models, and their costs. */
export interface CheckedModel {
  readonly quantised: QuantisedModel;
  /** Absent without quantised weights, or without windows. */
  readonly cost?: DenseCost;
  readonly timings: readonly StageTiming[];
}

export interface DenseCheck {
  readonly dense: UnderstoodModel;
  /** Weights that are quantised. */
  readonly planned: readonly GriddedWeight[];
  readonly quantised: QuantisedModel;
}

/** Windows that are compared at most. */
const MAX_WINDOWS = 2;

/**
 * Most logits in memory, of each of two models (100 MiB each), and fewest tokens of a window. All windows are read in one
 * run: a session that runs once is created faster.
 */
const MAX_LOGITS = 25 * 2 ** 20;
const MIN_TOKENS = 16;

/**
 * Compares a complete quantised model with the dense one, on windows that rounding did not learn from. If rounding to the
 * nearest levels is better there, that is used: gains of single linear layers need not add up.
 */
export async function checkAgainstDense(job: PruneJob, check: DenseCheck): Promise<CheckedModel> {
  const start = performance.now();
  const found = await compareWithDense(job, check);
  const timings = [...found.quantised.timings, { stage: 'check', ms: performance.now() - start }];
  return { ...found, timings };
}

async function compareWithDense(
  job: PruneJob,
  { dense, planned, quantised }: DenseCheck,
): Promise<Omit<CheckedModel, 'timings'>> {
  const { layout } = dense.analysed.detected;
  const tokens = Math.max(MIN_TOKENS, Math.floor(MAX_LOGITS / MAX_WINDOWS / layout.vocabularySize));
  const windows = (quantised.heldOut.length > 0 ? quantised.heldOut : job.windows)
    .slice(-MAX_WINDOWS)
    .map((window) => window.subarray(0, tokens));
  if (windows.length === 0 || planned.length === 0) return { quantised };
  const { analysed, engine, options } = job;
  const nearest = quantised.roundings.size > 0 ? await roundAgain(job, planned, quantised) : undefined;
  const compared = [job.model, quantised.model, ...(nearest ? [nearest.model] : [])].map((model) => ({
    model,
    analysed,
  }));
  const isUnpruned = job.model === dense.model;
  const models = isUnpruned ? compared.slice(1) : compared;
  const report = (done: number) =>
    options.onProgress?.({ stage: 'compare', done, total: 1 + models.length, detail: 'with the dense model' });
  report(0);
  const found = await measureDivergences(dense, models, { engine, windows, signal: options.signal, onModel: report });
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
