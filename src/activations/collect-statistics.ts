import type { OutputLinear } from '../architecture/layout.js';
import type { ChannelStatistics, StatisticsNeed } from '../compensation/adapter.js';
import { NumericalError } from '../errors.js';
import { makeInt64Initializer, makeNode } from '../graph/build.js';
import { findNonFinite } from '../linalg/matrix-block.js';
import type { Batch, BlockRunner } from '../runtime/block-runner.js';
import type { Tensor, Tensors } from '../runtime/engine.js';
import { addMoments, type ChannelMoments, startMoments } from './channel-moments.js';
import { createGramSum, type GramSum } from './gram-sum.js';
import { runMeters, type StageMeter } from './stage-meter.js';

/** Whose statistics are wanted, and how its tokens count. */
export interface StatisticsTarget {
  /** Linear map whose input channels are measured. */
  readonly linear: Pick<OutputLinear, 'node' | 'input' | 'inputCount'>;
  readonly needs: Exclude<StatisticsNeed, 'none'>;
  /** Channels of each function group, ascending. One group of all channels without FANG. */
  readonly groups: readonly Int32Array[];
  /** Weights of a batch's tokens, `[groups, tokens]` row by row; absent = all 1. */
  readonly tokenWeights?: (batch: Batch) => Float32Array;
}

export interface StatisticsRequest {
  readonly targets: readonly StatisticsTarget[];
  /** Meters that look at the same runs. */
  readonly beside?: readonly StageMeter[];
  readonly onBatch?: (batch: Batch) => void;
}

/**
 * Measures the input channels of linear maps of one stage over all tokens, per function group and token-weighted. The sums
 * and the Gram products run inside the stage's graph; only sums leave it.
 *
 * @returns Statistics by target and group, channels in the group's order.
 * @throws NumericalError when a channel is NaN or infinite, naming it.
 */
export async function collectStatistics(
  runner: BlockRunner,
  { targets, beside = [], onBatch }: StatisticsRequest,
): Promise<ChannelStatistics[][]> {
  const meters = targets.map((target, at) => createStatisticsMeter(target, String(at)));
  await runMeters(runner, [...meters, ...beside], onBatch);
  return meters.map((meter) => meter.finish());
}

/** A meter of one target's statistics. */
export interface StatisticsMeter extends StageMeter {
  /** Statistics by group. @throws NumericalError when a channel is NaN or infinite, naming it. */
  finish(): ChannelStatistics[];
}

/** @param at Tells the meter's values from those of other meters on the same stage. */
export function createStatisticsMeter(target: StatisticsTarget, at: string): StatisticsMeter {
  const sums = target.groups.map((group): Sums => ({ tokenCount: 0, moments: startMoments(group.length) }));
  const { extension, grams } = statisticsNodes(target, at);
  return {
    reads: [target.linear.input],
    extension,
    feeds: (batch) => Object.assign(weightFeeds(target, at, batch), ...grams.map((gram) => gram.feeds())),
    add(batch, values) {
      target.groups.forEach((group, k) => {
        sums[k] = addBatch(sums[k]!, { target, at, k, group, batch, values });
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

const valueName = (at: string, what: string, k?: number): string =>
  `statistics/${at}/${what}${k === undefined ? '' : `/${k}`}`;

/**
 * T = tokens, F = channels, G = groups. With m the batch mean and d = h - m: W d and W d^2, each `[G, F]`, and per group
 * the upper triangle of (w h_G)^T h_G. Only operators whose form is the same in every opset.
 */
function statisticsNodes(target: StatisticsTarget, at: string) {
  const { linear, needs, groups, tokenWeights } = target;
  const name = (what: string, k?: number): string => valueName(at, what, k);
  const node = (op: string, inputs: string[], output: string, attributes = {}) =>
    makeNode({ op, inputs, outputs: [output], attributes });
  const nodes = [
    node('Cast', [linear.input], name('float'), { to: 1 }),
    node('Reshape', [name('float'), name('shape')], name('h')),
    node('MatMul', [name('mean_weights'), name('h')], name('mean')),
    node('Sub', [name('h'), name('mean')], name('centred')),
    node('Mul', [name('centred'), name('centred')], name('squared')),
    node('MatMul', [name('weights'), name('centred')], name('first')),
    node('MatMul', [name('weights'), name('squared')], name('second')),
  ];
  const initializers = [makeInt64Initializer(name('shape'), [-1, linear.inputCount])];
  const outputs = [name('mean'), name('first'), name('second')];
  const grams: GramSum[] = [];
  if (needs === 'gram') {
    nodes.push(node('Transpose', [name('h')], name('channels'), { perm: [1, 0] }));
    groups.forEach((group, k) => {
      const right = group.length === linear.inputCount ? name('channels') : name('members', k);
      if (right !== name('channels')) {
        initializers.push(makeInt64Initializer(name('group', k), [...group]));
        nodes.push(node('Gather', [name('channels'), name('group', k)], right, { axis: 0 }));
      }
      const left = tokenWeights === undefined ? right : name('weighted', k);
      if (left !== right) {
        initializers.push(makeInt64Initializer(name('row', k), [k]));
        nodes.push(
          node('Gather', [name('weights'), name('row', k)], name('weight', k), { axis: 0 }),
          node('Mul', [right, name('weight', k)], left),
        );
      }
      const gram = createGramSum({ name: name('gram', k), left, right, size: group.length });
      nodes.push(...gram.nodes);
      initializers.push(...gram.initializers);
      outputs.push(...gram.outputs);
      grams.push(gram);
    });
  }
  const inputs = [
    ...['mean_weights', 'weights'].map((what) => ({ name: name(what), type: 'float32' as const })),
    ...grams.flatMap((gram) => gram.inputs),
  ];
  return { extension: { nodes, initializers, inputs, outputs }, grams };
}

function weightFeeds({ groups, tokenWeights }: StatisticsTarget, at: string, batch: Batch): Tensors {
  const tokenCount = batch.batchSize * batch.sequenceLength;
  const groupCount = groups.length;
  const float = (dims: number[], data: Float32Array): Tensor => ({ type: 'float32', dims, data });
  const weights = tokenWeights?.(batch) ?? new Float32Array(groupCount * tokenCount).fill(1);
  return {
    [valueName(at, 'mean_weights')]: float([1, tokenCount], new Float32Array(tokenCount).fill(1 / tokenCount)),
    [valueName(at, 'weights')]: float([groupCount, tokenCount], weights),
  };
}

interface GroupBatch {
  readonly target: StatisticsTarget;
  readonly at: string;
  readonly k: number;
  readonly group: Int32Array;
  readonly batch: Batch;
  readonly values: Tensors;
}

function addBatch(sums: Sums, { target, at, k, group, batch, values }: GroupBatch): Sums {
  const tokenCount = batch.batchSize * batch.sequenceLength;
  const weights = target.tokenWeights?.(batch).subarray(k * tokenCount, (k + 1) * tokenCount);
  const weightSum = weights === undefined ? tokenCount : weights.reduce((sum, weight) => sum + weight, 0);
  const row = (what: string): Float32Array => {
    const all = values[valueName(at, what)]!.data as Float32Array;
    const start = what === 'mean' ? 0 : k * target.linear.inputCount;
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
  const broken = findNonFinite(moments.scatter);
  if (broken >= 0) {
    throw new NumericalError(
      `channel ${target.groups[k]?.[broken]} at the input of ${target.linear.node} is NaN or infinite; check the model's weights, or run it in float32`,
    );
  }
  return {
    tokenCount,
    mean: moments.mean,
    variance: moments.scatter.map((value) => value / tokenCount),
    ...(gram && { gram: gram.finish(tokenCount) }),
  };
}
