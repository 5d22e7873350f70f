import { backpropagate } from '../../activations/backpropagate.js';
import { createTokenWeightMeter } from '../../activations/token-weight-meter.js';
import { type BlockSpan, blockSpans, logitsInBlocks } from '../../architecture/layout.js';
import { errorMessage } from '../../error-message.js';
import { UnsupportedModelError } from '../../errors.js';
import { METRICS } from '../../importance/metrics.js';
import type { PruneContext } from '../prune-context.js';
import { findInterruptedBackward, openBackwardCheckpoint } from './backward-checkpoint.js';
import { type DensePasses, lowestSpan } from './dense-passes.js';
import { findGradientReach } from './gradient-reach.js';
import { beginGradients } from './measure-backwards.js';
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
  let obstacle = obstacles.find((found) => found !== undefined);
  if (values.length === 0 && obstacle !== undefined) return { weights: new Map(), obstacle: errorMessage(obstacle) };
  const { analysed, engine, options } = job;
  const spans = blockSpans(analysed.detected.layout);
  const runner = await context.startRunner(job.model, { isFixed: true });
  const [archive, cotangents] = [
    await job.createStore(job.windows.length, spans.length + 1),
    await job.createStore(job.windows.length),
  ];
  const meters = values.map((value) => ({ ...value, meter: createTokenWeightMeter(value.value, value.channelCount) }));
  const inSpan = ({ first, last }: BlockSpan) => meters.filter(({ segment }) => segment >= first && segment <= last);
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
    beginGradients(context, batches.length);
    const checkpoint = await openBackwardCheckpoint(context, {
      needs: NO_NEEDS,
      spans,
      forwards,
      found,
      cotangents,
      backwardPass,
    });
    const passBackwards = () =>
      backpropagate({
        engine,
        model: job.model,
        analysed,
        ...backwardPass,
        spans,
        side: runner.side,
        cotangents,
        softened: { temperature: METRICS.divergence.temperature, seed: options.seed },
        metersOf: (span) => inSpan(span).map(({ meter }) => meter),
        start: checkpoint.start,
        async onSpan(span, place) {
          for (const { value, meter } of inSpan(span)) found.get(value)!.weights = meter.finish();
          await checkpoint.saveIfNeeded(place);
        },
        onBatch: (detail, part) => context.tick(detail, part === 'loss' ? logitsInBlocks(analysed.detected.layout) : 1),
        signal: options.signal,
      });
    await context.timed('backward', passBackwards).catch((error: unknown) => {
      if (!(error instanceof UnsupportedModelError)) throw error;
      obstacle = error;
    });
    const weights = new Map(
      [...found].flatMap(([value, { weights }]) =>
        weights === undefined ? [] : [[value, normalise(weights)] as const],
      ),
    );
    return { weights, ...(obstacle && { obstacle: errorMessage(obstacle) }) };
  } finally {
    await Promise.all([runner.dispose(), archive.dispose(), cotangents.dispose()]);
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
