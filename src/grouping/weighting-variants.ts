/** A context relative to a function group's own context; distances in units of the temperature. */
export interface WeighedContext {
  readonly distance: number;
  /** Distance of the farthest context. */
  readonly farthest: number;
  /** Whether it is the group's own context. */
  readonly own: boolean;
}

/** Weighting of contexts for one function group, before the mean is scaled to 1. */
export interface WeightingVariant {
  readonly description: string;
  /** Tokens over which centres and the mean weight are computed: all calibration tokens, or each window. */
  readonly scope: 'calibration' | 'window';
  /** Weight of a context, up to a common factor. Absent: all contexts are equal. */
  weigh?(context: WeighedContext): number;
}

/** All token weightings by name; a new one is a new row. */
export const WEIGHTING_VARIANTS = {
  softmax: {
    description: 'near contexts count more: softmax of -distance / temperature (Eq. 6)',
    scope: 'calibration',
    weigh: ({ distance }) => Math.exp(-distance),
  },
  'per-window': {
    description: 'as softmax, with centres and mean weight of each window by itself (the published code)',
    scope: 'window',
    weigh: ({ distance }) => Math.exp(-distance),
  },
  uniform: { description: 'every token counts the same (ablation)', scope: 'calibration' },
  reverse: {
    description: 'far contexts count more: softmax of distance / temperature (ablation)',
    scope: 'calibration',
    // Relative to the farthest context, so that exp does not overflow.
    weigh: ({ distance, farthest }) => Math.exp(distance - farthest),
  },
  'only-matched': {
    description: "only the group's own context counts (ablation)",
    scope: 'calibration',
    weigh: ({ own }) => (own ? 1 : 0),
  },
} as const satisfies Record<string, WeightingVariant>;

export type WeightingName = keyof typeof WEIGHTING_VARIANTS;
