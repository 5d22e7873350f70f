/** A way to measure errors at a module's output. Rows of `METRICS`. */
export interface Metric {
  readonly description: string;
  /** Whether directions of an error are weighted, by the covariance of a gradient from a backward pass. */
  readonly hasCurvature: boolean;
  /** Whether forward passes can replace the gradient: the metric has its minimum, zero, at the dense model. */
  readonly measuredForwards: boolean;
  /**
   * Softens the model's own prediction, from which the gradient's targets are drawn, by dividing its logits; above 0. Absent:
   * the targets are the next tokens of the text.
   */
  readonly temperature?: number;
}

/** Every metric by name; a new one is a new row. */
export const METRICS = {
  output: { description: 'plain squared distance', hasCurvature: false, measuredForwards: false },
  loss: {
    description: 'effect of an error on the loss of the calibration tokens',
    hasCurvature: true,
    measuredForwards: false,
  },
  divergence: {
    description: "effect of an error on the divergence from the dense model's predictions",
    hasCurvature: true,
    measuredForwards: true,
    // At 1 tokens that it is sure of have next to no gradient, and code, which is full of them, loses most (docs/research/auto.md).
    temperature: 2,
  },
} as const satisfies Record<string, Metric>;

export type MetricName = keyof typeof METRICS;
