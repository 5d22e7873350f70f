/** Adam's moments of a flat list of weights, of equal lengths. */
export interface Moments {
  /** m, the mean of the gradients. */
  readonly first: Float32Array;
  /** v, the mean of their squares. */
  readonly second: Float32Array;
}

export interface AdamStep {
  readonly gradient: Float32Array;
  /** Factor of the gradient, below 1 where it is clipped. */
  readonly scale: number;
  readonly learningRate: number;
  /** From 1. */
  readonly step: number;
}

const FIRST_DECAY = 0.9;
const SECOND_DECAY = 0.95;
const EPSILON = 1e-8;

/**
 * Moves weights by one step of AdamW without decay, in place, with betas 0.9 and 0.95.
 * @see Kingma & Ba (arXiv 1412.6980), algorithm 1; Loshchilov & Hutter (arXiv 1711.05101)
 */
export function stepAdam(weights: Float32Array, { first: m, second: v }: Moments, given: AdamStep): void {
  const { gradient, scale, learningRate, step } = given;
  const rate = learningRate / (1 - FIRST_DECAY ** step);
  const unbias = 1 / Math.sqrt(1 - SECOND_DECAY ** step);
  for (let at = 0; at < weights.length; at += 1) {
    const g = gradient[at]! * scale;
    const mean = FIRST_DECAY * m[at]! + (1 - FIRST_DECAY) * g;
    const square = SECOND_DECAY * v[at]! + (1 - SECOND_DECAY) * g * g;
    m[at] = mean;
    v[at] = square;
    weights[at]! -= (rate * mean) / (Math.sqrt(square) * unbias + EPSILON);
  }
}

/**
 * Warm-up steps of the learning rate: a fraction of all steps, at least `least`, and at most a quarter for short
 * trainings. Before Adam has averaged several gradients, it moves every weight by the full rate.
 */
const WARM_UP = { fraction: 0.05, least: 4 };

/** Factor of the learning rate at a step: linear warm-up, then cosine decay to just above 0. @param step From 1. */
export function scheduleRate(step: number, stepCount: number): number {
  const least = Math.min(WARM_UP.least, Math.floor(stepCount / 4));
  const rise = Math.max(1, least, Math.round(WARM_UP.fraction * stepCount));
  if (step <= rise) return step / rise;
  return (1 + Math.cos((Math.PI * (step - rise)) / (stepCount - rise + 1))) / 2;
}

/** Parameters of the model on which the rate was tuned (SmolLM2-135M), and the rate. */
const REFERENCE_PARAMETERS = 135e6;
const REFERENCE_RATE = 2e-4;

/**
 * Learning rate of a model by its parameters: 2e-4 at 135 M, otherwise inversely proportional to the cube root of their
 * count, as for the sizes of GPT-3. @see Brown et al. (arXiv 2005.14165), table 2.1
 */
export function learningRateOf(parameterCount: number): number {
  return REFERENCE_RATE * Math.cbrt(REFERENCE_PARAMETERS / Math.max(1, parameterCount));
}
