import { createTokenWeightMeter } from '../../activations/token-weight-meter.js';
import { blockSpans } from '../../architecture/layout.js';
import { errorMessage } from '../../error-message.js';
import { METRICS } from '../../importance/metrics.js';
import type { PruneContext } from '../prune-context.js';
import { findInterruptedBackward } from './backward-checkpoint.js';
import { type DensePasses, lowestSpan } from './dense-passes.js';
import { findGradientReach } from './gradient-reach.js';
import { passBackwards } from './measure-backwards.js';
import { measureForwards } from './measure-forwards.js';

/** Sensitivity of the loss to a value, token by token. */
export interface TokenWeights {
  /** By the index of a batch; their mean is 1. */
  readonly batches: ReadonlyMap<number, Float32Array>;
  /** Mean squared norm of the gradient, by which weights were divided. */
  readonly strength: number;
}

/** Token weights at the values that gradients reach. */
export interface MeasuredTokenWeights {
  readonly weights: ReadonlyMap<string, TokenWeights>;
  /** Why gradients do not reach the others; absent: they reach all. */
  readonly obstacle?: string;
}

export const tokenWeightBytes = ({ weights }: MeasuredTokenWeights): number =>
  [...weights.values()]
    .flatMap(({ batches }) => [...batches.values()])
    .reduce((sum, batch) => sum + batch.byteLength, 0);

/** A value at which tokens are weighted. */
export interface WeighedValue {
  readonly value: string;
  readonly channelCount: number;
  readonly segment: number;
}

/** The forward pass only stores hidden states for the backward pass. */
const NO_NEEDS = {
  blockChange: false,
  sensitivity: false,
  grouping: undefined,
  modules: [],
  curvatures: undefined,
  order: undefined,
} as const;

/**
 * Runs a backward pass of the cross-entropy with targets sampled from the model's predictions, and measures the squared gradient
 * of every token at some values, divided by its mean unless that is 0. Values that no gradient reaches are omitted.
 */
export async function measureTokenWeights(
  context: PruneContext,
  given: readonly WeighedValue[],
): Promise<MeasuredTokenWeights> {
  const { job, batches } = context;
  const reach = findGradientReach(job.model, job.analysed);
  const obstacles = given.map(({ value }) => reach.obstacleOf(value));
  const values = given.filter((_, at) => obstacles[at] === undefined);
  const unreached = obstacles.find((found) => found !== undefined);
  if (values.length === 0 && unreached !== undefined) return { weights: new Map(), obstacle: errorMessage(unreached) };
  const spans = blockSpans(job.analysed.detected.layout);
  const runner = await context.startRunner(job.model, { isFixed: true });
  const archive = await job.createStore(job.windows.length, spans.length + 1);
  try {
    const backwardPass = { batches, archive, modules: [], lowest: lowestSpan(spans, values) };
    const passes: DensePasses = {
      needs: NO_NEEDS,
      model: job.model,
      runner,
      backwardPass,
      statisticsStore: undefined,
      spans,
      obstacle: undefined,
      dispose: async () => undefined,
    };
    const forwards = await measureForwards(context, passes, await findInterruptedBackward(context, passes));
    const found = new Map(values.map(({ value }): [string, { weights?: TokenWeights['batches'] }] => [value, {}]));
    const measured = values.map(({ value, channelCount, segment }) => {
      const meter = createTokenWeightMeter(value, channelCount);
      return {
        segment,
        meters: [meter],
        async finish() {
          found.get(value)!.weights = meter.finish();
        },
      };
    });
    const softened = { temperature: METRICS.divergence.temperature, seed: job.options.seed };
    const { failure } = await passBackwards(context, passes, { backwardPass, forwards, found, measured, softened });
    const obstacle = failure ?? unreached;
    const weights = new Map(
      [...found].flatMap(([value, { weights }]) =>
        weights === undefined ? [] : [[value, normalise(weights)] as const],
      ),
    );
    return { weights, ...(obstacle && { obstacle: errorMessage(obstacle) }) };
  } finally {
    await Promise.all([runner.dispose(), archive.dispose()]);
  }
}

function normalise(weights: TokenWeights['batches']): TokenWeights {
  let [sum, count] = [0, 0];
  for (const batch of weights.values()) {
    for (const weight of batch) sum += weight;
    count += batch.length;
  }
  const factor = sum > 0 ? count / sum : 1;
  return {
    batches: new Map([...weights].map(([index, batch]) => [index, batch.map((weight) => weight * factor)])),
    strength: count > 0 ? sum / count : 0,
  };
}
