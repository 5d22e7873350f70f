import { credibleCosts } from './credible-costs.js';

/** Measurements of the experts of one mixture, by expert, over the tokens routed to each. */
export interface ExpertStatistics {
  readonly tokens: Float64Array;
  /** Sums of `g |f|`: routing weight times the norm of the expert's output. */
  readonly gatedNorms: Float64Array;
  /** Sums of `|f|`. */
  readonly norms: Float64Array;
  /** Sums of `|f|^2`. */
  readonly squares: Float64Array;
  /** Cost of removing it alone, in the run's metric, per calibration token. */
  readonly costs: Float64Array;
}

/** A score of experts: the lowest are removed first. Rows of `EXPERT_SCORES`. */
export interface ExpertScoreRow {
  readonly description: string;
  /** Where it was published. */
  readonly paper: string;
  /** Whether the remaining experts are scored again after each removal; published scores are computed once. */
  readonly isRemeasured: boolean;
  /** One score per expert. */
  score(statistics: ExpertStatistics): Float64Array;
}

/** Means over the tokens routed to each expert; 0 without tokens. */
const overTokens = (sums: Float64Array, { tokens }: ExpertStatistics): Float64Array =>
  sums.map((sum, expert) => (tokens[expert] === 0 ? 0 : sum / tokens[expert]!));

/** All scores of experts by name; a new one is a new row. */
export const EXPERT_SCORES = {
  removal: {
    description: 'error of the output, in the metric, once the router sends its tokens to the other experts',
    paper: 'this library: docs/methods.md',
    isRemeasured: true,
    score: credibleCosts,
  },
  reap: {
    description: "mean of the routing weight times the norm of the expert's output",
    paper: 'REAP: Lasby et al., arXiv 2510.13999',
    isRemeasured: false,
    score: (statistics) => overTokens(statistics.gatedNorms, statistics),
  },
  man: {
    description: "mean norm of the expert's output",
    paper: 'MAN: arXiv 2606.15716',
    isRemeasured: false,
    score: (statistics) => overTokens(statistics.norms, statistics),
  },
  msan: {
    description: "mean squared norm of the expert's output",
    paper: 'MSAN: arXiv 2606.15716',
    isRemeasured: false,
    score: (statistics) => overTokens(statistics.squares, statistics),
  },
  frequency: {
    description: 'tokens that are routed to the expert',
    paper: 'none',
    isRemeasured: false,
    score: ({ tokens }) => tokens,
  },
} as const satisfies Record<string, ExpertScoreRow>;

export type ExpertScoreName = keyof typeof EXPERT_SCORES;
