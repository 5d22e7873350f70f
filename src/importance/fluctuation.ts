import type { ImportanceProblem } from '../compensation/adapter.js';
import { columnSums } from './column-sums.js';
import type { ScoreRow } from './importance-score.js';
import { sumOverUnits, type UnitAggregate } from './units.js';

/** FLAP's score of one channel from its fluctuation (variance) and its column of the weight. */
export const FLUCTUATION_METRICS = {
  /** Fluctuation alone: `v_j`. */
  IFV: ({ statistics }) => statistics.variance,
  /** Fluctuation times the squared norm of the linear layer's column: `v_j ||W_:j||^2`. */
  WIFV: ({ weight, scoredWeight = weight, statistics }) =>
    columnSums(scoredWeight, 'squares').map((norm, j) => statistics.variance[j]! * norm),
  /** Mean weight times the norm of the input: `mean_c |W_cj| sqrt(sum_i w_i h_ij^2)`. */
  WIFN: (problem) => {
    const { weight, scoredWeight = weight } = problem;
    const outputCount = weight.shape[0]!;
    const norms = inputNorms(problem);
    return columnSums(scoredWeight, 'absolutes').map((sum, j) => (sum / outputCount) * norms[j]!);
  },
} as const satisfies Record<string, (problem: ImportanceProblem) => Float64Array>;

export type FluctuationMetric = keyof typeof FLUCTUATION_METRICS;

export interface FlapSettings {
  /** Default `WIFV`. */
  readonly fluctuation: FluctuationMetric;
  /** How a head's channel scores are combined; no effect on neurons. Default `sum-of-squares`, as in the published code. */
  readonly aggregate: UnitAggregate;
}

export const flap: ScoreRow<FlapSettings> = {
  description: 'fluctuation of each channel weighted by its column; removed means become a bias',
  paper: 'FLAP: An et al., AAAI 2024, arXiv 2312.11983',
  needs: 'moments',
  repair: 'bias',
  settings: { fluctuation: 'WIFV', aggregate: 'sum-of-squares' },
  choices: {
    fluctuation: Object.keys(FLUCTUATION_METRICS) as FluctuationMetric[],
    aggregate: ['sum', 'sum-of-squares'],
  },
  score: (problem, { fluctuation, aggregate }) => scoreByFluctuation(problem, fluctuation, aggregate),
};

/**
 * Scores units by how much they fluctuate over the calibration tokens: a constant one can be replaced by a bias.
 *
 * @param aggregate How a head's channel scores are combined.
 * @see FLAP (An et al., AAAI 2024, arXiv 2312.11983), section 3.2
 */
export function scoreByFluctuation(
  problem: ImportanceProblem,
  fluctuation: FluctuationMetric,
  aggregate: UnitAggregate,
): Float64Array {
  return sumOverUnits(FLUCTUATION_METRICS[fluctuation](problem), problem, aggregate);
}

/** Weighted l2 norm of each channel over the tokens, `sqrt(sum_i w_i h_ij^2)`. */
export function inputNorms({ statistics }: ImportanceProblem): Float64Array {
  const { tokenCount, mean, variance } = statistics;
  return mean.map((mu, j) => Math.sqrt(tokenCount * (variance[j]! + mu * mu)));
}
