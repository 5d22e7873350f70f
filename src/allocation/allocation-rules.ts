/** What is measured of a block on the dense model for a rule to go by. */
export type BlockMeasure = 'blockChange' | 'outlierRatio' | 'sensitivity';

/**
 * A rule that spreads sparsity over blocks: the larger a block's measure, the less it loses. Sparsities fall linearly
 * with the measure, which is min-max scaled to `width`, and are then kept within `range` and moved to the exact budget.
 */
export interface AllocationRule {
  readonly description: string;
  readonly paper: string;
  /** Absent: all blocks alike. */
  readonly measure?: BlockMeasure;
  /** Difference between the least and the most pruned block, for overall sparsity `s`. */
  width(sparsity: number): number;
  /** Lowest and highest block sparsity. */
  range(sparsity: number): readonly [number, number];
}

/** Beyond this a block is all but gone, and what is left of it cannot be judged by its own scores. */
const HIGHEST_SPARSITY = 0.95;

const wholeRange = (sparsity: number) => [0, Math.max(sparsity, HIGHEST_SPARSITY)] as const;

/** Every rule by name; a new one is a new row. */
export const ALLOCATION_RULES = {
  uniform: {
    description: 'every block loses the same fraction',
    paper: 'FLAP (arXiv 2312.11983), UL-UM',
    width: () => 0,
    range: wholeRange,
  },
  adaptive: {
    description: 'blocks that change their input much lose little: s_l = s - (FC_l - mean FC), FC scaled to width s',
    paper: 'FANG (arXiv 2512.23014), Eq. 8, as its published code computes it',
    measure: 'blockChange',
    width: (sparsity) => sparsity,
    range: wholeRange,
  },
  'adaptive-clamped': {
    description: 'as adaptive, each block kept within [0.5 s, 1.5 s]',
    paper: 'FANG (arXiv 2512.23014), Eq. 8, as its text bounds it',
    measure: 'blockChange',
    width: (sparsity) => sparsity,
    range: (sparsity) => [0.5 * sparsity, Math.min(1.5 * sparsity, Math.max(sparsity, HIGHEST_SPARSITY))],
  },
  owl: {
    description: 'blocks with many outlying scores lose little, within s +- 0.08',
    paper: 'OWL: Yin et al., ICML 2024, arXiv 2310.05175',
    measure: 'outlierRatio',
    width: () => 0.16,
    range: (sparsity) => [
      Math.max(0, sparsity - 0.08),
      Math.min(Math.max(sparsity, HIGHEST_SPARSITY), sparsity + 0.08),
    ],
  },
  taylor: {
    description: 'blocks whose activations matter much to the loss (|h dL/dh|) lose little',
    paper: 'Molchanov et al., CVPR 2019, arXiv 1906.10771; as compared in FANG, Table 7',
    measure: 'sensitivity',
    width: (sparsity) => sparsity,
    range: wholeRange,
  },
} as const satisfies Record<string, AllocationRule>;

export type AllocationRuleName = keyof typeof ALLOCATION_RULES;
