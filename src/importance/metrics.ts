/** Metric of errors at a module's output. Rows of `METRICS`. */
export interface Metric {
  readonly description: string;
  /** Whether errors are weighted by the covariance of a gradient, from a backward pass. */
  readonly hasCurvature: boolean;
  /** Whether forward passes can replace the gradient: the metric has its minimum, zero, at the dense model. */
  readonly measuredForwards: boolean;
  /**
   * Softmax temperature of the model's own prediction, from which the gradient's targets are sampled; above 0. Absent:
   * the targets are the next tokens of the text.
   */
  readonly temperature?: number;
}

/** All metrics by name; a new one is a new row. */
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
    // At 1, confidently predicted tokens have almost no gradient, and code, with many of them, degrades most (docs/research/auto.md).
    temperature: 2,
  },
} as const satisfies Record<string, Metric>;

export type MetricName = keyof typeof METRICS;
