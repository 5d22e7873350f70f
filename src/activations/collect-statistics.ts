import type { OutputLinear } from '../architecture/layout.js';
import type { ChannelStatistics, StatisticsNeed } from '../compensation/adapter.js';
import { NumericalError } from '../errors.js';
import { findNonFinite } from '../linalg/matrix-block.js';
import { sum } from '../linalg/sum.js';
import type { Value } from '../onnx/value.js';
import { OPEN } from '../onnx/value-facts.js';
import type { Batch, BlockRunner } from '../runtime/block-runner.js';
import { joinExtensions } from '../runtime/compile-stage.js';
import type { Tensor, Tensors } from '../runtime/engine.js';
import { addMoments, type ChannelMoments, startMoments } from './channel-moments.js';
import { extendStage } from './extend-stage.js';
import { createGramSum, type GramSum } from './gram-sum.js';
import { runMeters, type StageMeter } from './stage-meter.js';

/** A linear layer whose input statistics are collected, by function group and with token weights. */
export interface StatisticsTarget {
  /** Linear layer whose input channels are measured. */
  readonly linear: Pick<OutputLinear, 'node' | 'input' | 'inputCount'>;
  readonly needs: Exclude<StatisticsNeed, 'none'>;
  /** Channels of each function group, ascending. One group of all channels without FANG. */
  readonly groups: readonly Int32Array[];
  /** Weights of a batch's tokens, `[groups, tokens]` row by row; absent = all 1. */
  readonly tokenWeights?: (batch: Batch) => Float32Array;
}

export interface StatisticsRequest {
  readonly targets: readonly StatisticsTarget[];
  /** Meters that read the same runs. */
  readonly otherMeters?: readonly StageMeter[];
  readonly onBatch?: (batch: Batch) => void;
}

/**
 * Measures the input channels of linear layers of one stage over all tokens, per function group and token-weighted. The
 * stage's graph computes the sums and Gram products and returns only those.
 *
 * @returns Statistics by target and group, channels in the group's order.
 * @throws NumericalError when a channel is NaN or infinite, naming it.
 */
export async function collectStatistics(
  runner: BlockRunner,
  { targets, otherMeters = [], onBatch }: StatisticsRequest,
): Promise<ChannelStatistics[][]> {
  const meters = targets.map((target, at) => createStatisticsMeter(target, String(at)));
  await runMeters(runner, [...meters, ...otherMeters], onBatch);
  return meters.map((meter) => meter.finish());
}

/** A meter of one target's statistics. */
export interface StatisticsMeter extends StageMeter {
  /** Statistics by group. @throws NumericalError when a channel is NaN or infinite, naming it. */
  finish(): ChannelStatistics[];
}

/** @param at Index of the meter, unique on its stage: prefixes the names of its values. */
export function createStatisticsMeter(target: StatisticsTarget, at: string): StatisticsMeter {
  const sums = target.groups.map((group): Sums => ({ tokenCount: 0, moments: startMoments(group.length) }));
  const { extension, grams, names } = statisticsNodes(target, at);
  return {
    reads: [target.linear.input],
    extension,
    feeds: (batch) => Object.assign(weightFeeds(target, names, batch), ...grams.map((gram) => gram.feeds())),
    add(batch, values) {
      target.groups.forEach((group, k) => {
        sums[k] = addBatch(sums[k]!, { target, names, k, group, batch, values });
        grams[k]?.add(values);
      });
    },
    finish: () => sums.map((sum, k) => finish({ ...sum, gram: grams[k] }, target, k)),
  };
}

interface Sums {
  readonly tokenCount: number;
  readonly moments: ChannelMoments;
}

/** Value names by role. */
type SumNames = Readonly<Record<string, string>>;

/**
 * T = tokens, F = channels, G = groups. With m the batch mean and d = h - m: W d and W d^2, each `[G, F]`, and per group
 * the upper triangle of (w h_G)^T h_G.
 */
function statisticsNodes(target: StatisticsTarget, at: string) {
  const { linear, needs, groups, tokenWeights } = target;
  const prefix = `statistics/${at}`;
  const { names, ...own } = extendStage<string>(prefix, (o) => {
    const meanWeights = o.input('mean_weights', [1, OPEN]);
    const weights = o.input('weights', [groups.length, OPEN]);
    const h = o.rows(o.float(o.value(linear.input)), linear.inputCount);
    const mean = o.matMul(meanWeights, h);
    const centred = o.sub(h, mean);
    const sums = { first: o.matMul(weights, centred), second: o.matMul(weights, o.mul(centred, centred)) };
    if (needs !== 'gram') return { meanWeights, weights, mean, ...sums };
    const channels = o.transpose(h, [1, 0]);
    const factors = groups.map((group, k): [left: Value, right: Value] => {
      const right = group.length === linear.inputCount ? channels : o.pickRows(channels, [...group]);
      return [tokenWeights === undefined ? right : o.mul(right, o.pickRows(weights, [k])), right];
    });
    const named = factors.flatMap(([left, right], k) => [[`left/${k}`, left] as const, [`right/${k}`, right] as const]);
    return { meanWeights, weights, mean, ...sums, ...Object.fromEntries(named) };
  });
  const grams =
    needs === 'gram'
      ? groups.map((group, k) => {
          const [left, right] = [names[`left/${k}`]!, names[`right/${k}`]!];
          return createGramSum({ name: `${prefix}/gram/${k}`, left, right, size: group.length });
        })
      : [];
  const outputs = [names.mean!, names.first!, names.second!];
  return { extension: joinExtensions([{ ...own, outputs }, ...grams]), grams, names };
}

function weightFeeds({ groups, tokenWeights }: StatisticsTarget, names: SumNames, batch: Batch): Tensors {
  const tokenCount = batch.batchSize * batch.sequenceLength;
  const groupCount = groups.length;
  const float = (dims: number[], data: Float32Array): Tensor => ({ type: 'float32', dims, data });
  const weights = tokenWeights?.(batch) ?? new Float32Array(groupCount * tokenCount).fill(1);
  return {
    [names.meanWeights!]: float([1, tokenCount], new Float32Array(tokenCount).fill(1 / tokenCount)),
    [names.weights!]: float([groupCount, tokenCount], weights),
  };
}

interface GroupBatch {
  readonly target: StatisticsTarget;
  readonly names: SumNames;
  readonly k: number;
  readonly group: Int32Array;
  readonly batch: Batch;
  readonly values: Tensors;
}

function addBatch(sums: Sums, { target, names, k, group, batch, values }: GroupBatch): Sums {
  const tokenCount = batch.batchSize * batch.sequenceLength;
  const weights = target.tokenWeights?.(batch).subarray(k * tokenCount, (k + 1) * tokenCount);
  const weightSum = weights === undefined ? tokenCount : sum(weights);
  const row = (name: 'mean' | 'first' | 'second'): Float32Array => {
    const all = values[names[name]!]!.data as Float32Array;
    const start = name === 'mean' ? 0 : k * target.linear.inputCount;
    return Float32Array.from(group, (channel) => all[start + channel]!);
  };
  const moments = addMoments(sums.moments, {
    weightSum,
    shift: row('mean'),
    first: row('first'),
    second: row('second'),
  });
  return { tokenCount: sums.tokenCount + tokenCount, moments };
}

function finish(
  { tokenCount, moments, gram }: Sums & { readonly gram: GramSum | undefined },
  target: StatisticsTarget,
  k: number,
): ChannelStatistics {
  const invalid = findNonFinite(moments.scatter);
  if (invalid >= 0) {
    throw new NumericalError(
      `channel ${target.groups[k]?.[invalid]} at the input of ${target.linear.node} is NaN or infinite; check the model's weights, or run it in float32`,
    );
  }
  return {
    tokenCount,
    mean: moments.mean,
    variance: moments.scatter.map((value) => value / tokenCount),
    ...(gram && { gram: gram.finish(tokenCount) }),
  };
}
