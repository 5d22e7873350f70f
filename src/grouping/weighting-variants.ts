/** A context as seen from a function group's own one; distances in units of the temperature. */
export interface WeighedContext {
  readonly distance: number;
  /** Distance of the farthest context. */
  readonly farthest: number;
  /** Whether it is the group's own. */
  readonly own: boolean;
}

/** How much tokens of each context count for one function group, before the mean is brought to 1. */
export interface WeightingVariant {
  readonly description: string;
  /** Over which tokens centres and the mean weight are taken: all calibration tokens, or each window by itself. */
  readonly scope: 'calibration' | 'window';
  /** Weight of a context, up to a common factor. Absent: all contexts alike. */
  weigh?(context: WeighedContext): number;
}

/** Every token weighting by name; a new one is a new row. */
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
  uniform: { description: 'every token counts alike (ablation)', scope: 'calibration' },
  reverse: {
    description: 'far contexts count more: softmax of distance / temperature (ablation)',
    scope: 'calibration',
    // Seen from the farthest one nothing overflows.
    weigh: ({ distance, farthest }) => Math.exp(distance - farthest),
  },
  'only-matched': {
    description: "only the group's own context counts (ablation)",
    scope: 'calibration',
    weigh: ({ own }) => (own ? 1 : 0),
  },
} as const satisfies Record<string, WeightingVariant>;

export type WeightingName = keyof typeof WEIGHTING_VARIANTS;
