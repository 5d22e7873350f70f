import { CALIBRATION_DEFAULTS, GENERATE_DEFAULTS } from '../options/calibration.js';
import { countHeldOut } from '../options/healing.js';
import { learnsRounding } from '../options/quantisation.js';
import type { ResolvedRequest } from '../options/request.js';
import { readsTokens } from '../options.js';
import { foreseePasses, goesBackwards } from '../prune/measure-dense/measure-dense.js';

/** Work by stage: how many tokens going forwards through the dense model would take as long. */
export type Work = Readonly<Record<string, number>>;

export interface WorkRequest extends ResolvedRequest {
  /** Results that are made from one look at the dense model. */
  readonly resultCount: number;
  /** Tokens that every model is evaluated on. */
  readonly evaluatedCount: number;
}

/**
 * What stages cost beside a token's way forwards, as measured on SmolLM2-135M and tiny-llama on a processor with two cores
 * (docs/notebook/performance.md). They serve progress and estimates alone.
 */
const COST = {
  /** Of a token that is sampled: batches of windows on a cache. */
  sampled: 8,
  /** Of a token's way back, beyond the one that passes count. */
  back: 2,
  /** Of factorising the Gram matrices, by calibration token. */
  factorised: 1,
  /** Of a token that healing learns from: the dense model, the pruned one, and its way back for every weight. */
  healed: 9,
  /** Of making a whole model's roundings learn from each other. */
  rounded: 6e4,
  certified: 4e3,
  /** Of opening a model and comparing it on held-out windows. */
  compared: 2e3,
  saved: 500,
  prepared: 500,
};

/** What a run will cost, roughly, in the order of its stages. Nothing is known of the model yet. */
export function foreseeWork({ options, quantisation, calibration, resultCount, evaluatedCount }: WorkRequest): Work {
  const { heal, shots } = options;
  const { windowCount, windowLength = CALIBRATION_DEFAULTS.windowLength, generate } = calibration;
  const looks = readsTokens(options) || learnsRounding(quantisation);
  const tokenCount = looks ? windowCount * windowLength : 0;
  const healedCount = heal === undefined ? 0 : (heal.windowCount + countHeldOut(heal)) * windowLength;
  const sampledCount =
    (generate === undefined ? 0 : tokenCount * (generate.share ?? GENERATE_DEFAULTS.share)) +
    healedCount * (1 - (heal?.textShare ?? 0));
  const dtypeCount = Math.max(1, quantisation.dtypes.length);
  return {
    load: COST.prepared,
    analyse: COST.prepared,
    calibrate: COST.prepared,
    generate: COST.sampled * sampledCount,
    prune: tokenCount * shots * passesOf(options, shots > 1 ? 1 : resultCount) * (shots > 1 ? resultCount : 1),
    heal: COST.healed * healedCount * (heal?.passCount ?? 0) * resultCount,
    quantise:
      resultCount *
      (learnsRounding(quantisation) ? COST.rounded + 4 * tokenCount : COST.saved) *
      quantisation.dtypes.length,
    drives: looks ? 4096 * resultCount : 0,
    save: resultCount * dtypeCount * COST.saved,
    certify: resultCount * dtypeCount * COST.certified,
    quality: (1 + resultCount * dtypeCount) * COST.compared,
    evaluate: evaluatedCount * (1 + resultCount),
  };
}

function passesOf(options: ResolvedRequest['options'], resultCount: number): number {
  const { all } = foreseePasses(options, resultCount);
  const isFactorised = options.adapter.needs === 'gram' && options.grouping === undefined;
  // Of the two passes over a block, one goes through less than all of it.
  return all - resultCount / 2 + (goesBackwards(options) ? COST.back : 0) + (isFactorised ? COST.factorised : 0);
}
