import { collectStatistics, type StatisticsTarget } from '../activations/collect-statistics.js';
import type { StageMeter } from '../activations/stage-meter.js';
import { type ContextSums, sumByContext } from '../activations/sum-by-context.js';
import type { PrunableModule } from '../architecture/layout.js';
import type { ChannelStatistics, StatisticsNeed } from '../compensation/adapter.js';
import { type Temperature, weightContexts } from '../grouping/weight-contexts.js';
import { WEIGHTING_VARIANTS, type WeightingName } from '../grouping/weighting-variants.js';
import { channelsOf } from '../removal/score-module.js';
import type { Batch, BlockRunner } from '../runtime/block-runner.js';
import { cacheValues } from './cache-values.js';
import type { FunctionalModule } from './measure-dense/dense-measures.js';
import { type PruneContext, segmentName } from './prune-context.js';

export interface MeasureRequest {
  /** Positioned at the segment. */
  readonly runner: BlockRunner;
  /** Modules of one segment. */
  readonly modules: readonly PrunableModule[];
  readonly needs: Exclude<StatisticsNeed, 'none'>;
  /** Modules whose neurons are grouped by function; the others are one group each. */
  readonly functional: ReadonlyMap<PrunableModule, FunctionalModule>;
  /** Meters that read the same runs. */
  readonly otherMeters?: readonly StageMeter[];
  /** Value to cache, from which later runs of the segment and the pruned module start. Default: the module's channels. */
  readonly held?: string | undefined;
}

/**
 * Measures the inputs of a segment's output projections, on the hidden states before the segment.
 * @returns Statistics by module and function group.
 */
export async function measureModules(context: PruneContext, request: MeasureRequest): Promise<ChannelStatistics[][]> {
  const { runner, modules, needs, functional, otherMeters = [] } = request;
  const [first] = modules;
  if (first === undefined) return [];
  const detail = segmentName(first.segment, context.job.analysed.detected.layout.modules);
  if (request.held !== undefined) runner.hold([request.held]);
  // A module's channels do not depend on its own removals, but may depend on those of another module of the segment.
  else if (modules.length === 1)
    cacheValues(context, runner, [{ value: first.output.input, channelCount: first.output.inputCount }]);
  return context.timed('measure', async () => {
    const targets: StatisticsTarget[] = [];
    for (const module of modules) {
      const found = functional.get(module);
      const groups = unitGroups(module, found).map((units) => channelsOf(module, units));
      const tokenWeights = found && (await measureTokenWeights(context, { runner, module, found }));
      targets.push({ linear: module.output, needs, groups, ...(tokenWeights && { tokenWeights }) });
    }
    return collectStatistics(runner, { targets, otherMeters, onBatch: () => context.tick(detail) });
  });
}

/** Units that are scored together: each function group, or all units. */
export function unitGroups({ unitCount }: PrunableModule, found: FunctionalModule | undefined): readonly Int32Array[] {
  return found?.groups.functions ?? [Int32Array.from({ length: unitCount }, (_, unit) => unit)];
}

interface WeighCase {
  readonly runner: BlockRunner;
  readonly module: PrunableModule;
  readonly found: FunctionalModule;
}

/** Token weights on the partly pruned model: tokens keep the dense model's centres, but the means of h are measured again. */
async function measureTokenWeights(
  context: PruneContext,
  { runner, module, found }: WeighCase,
): Promise<((batch: Batch) => Float32Array) | undefined> {
  const { weighting } = context.job.options;
  if (!('weigh' in WEIGHTING_VARIANTS[weighting.variant])) return undefined;
  const { feature, pca, centers, contextCount } = found.contexts;
  const { input: value, inputCount: channelCount } = module.output;
  const sums = await sumByContext(runner, { feature, pca, centers, contextCount, value, channelCount });
  return weightGroups({ ...sums, contextCount, windowLength: context.batches[0]?.sequenceLength ?? 1 }, weighting);
}

interface GroupWeighting {
  readonly variant: WeightingName;
  readonly temperature: Temperature;
}

/** Contexts of the tokens, and sums of h over the tokens of each. */
interface TokensByContext extends ContextSums {
  readonly contextCount: number;
  readonly windowLength: number;
}

/**
 * Weights of a batch's tokens for every function group, `[groups, tokens]`; group k is the one of context k.
 * @see FANG (arXiv 2512.23014), Eq. 6
 */
function weightGroups(tokens: TokensByContext, weighting: GroupWeighting): (batch: Batch) => Float32Array {
  const { sumsOfWindow, contextOfToken, contextCount, windowLength } = tokens;
  const byWindow = WEIGHTING_VARIANTS[weighting.variant].scope === 'window';
  const all = sumsOfWindow.map((_, window) => window);
  const tables = byWindow
    ? all.map((window) => weightTable(tokens, [window], weighting))
    : [weightTable(tokens, all, weighting)];
  return (batch) => {
    const tokenCount = batch.tokens.length;
    const weights = new Float32Array(contextCount * tokenCount);
    for (let token = 0; token < tokenCount; token += 1) {
      const at = batch.firstToken + token;
      const table = tables[byWindow ? Math.floor(at / windowLength) : 0]!;
      for (let group = 0; group < contextCount; group += 1) {
        weights[group * tokenCount + token] = table[group * contextCount + contextOfToken[at]!]!;
      }
    }
    return weights;
  };
}

/** `alpha[group][context]` with centres over some windows. */
function weightTable(
  { sumsOfWindow, contextOfToken, contextCount, windowLength }: TokensByContext,
  windows: readonly number[],
  { variant, temperature }: GroupWeighting,
): Float64Array {
  const counts = new Int32Array(contextCount);
  const centers = new Float64Array(sumsOfWindow[0]?.length ?? 0);
  for (const window of windows) {
    for (let token = window * windowLength; token < (window + 1) * windowLength; token += 1)
      counts[contextOfToken[token]!]! += 1;
    sumsOfWindow[window]!.forEach((sum, at) => {
      centers[at]! += sum;
    });
  }
  const channelCount = centers.length / contextCount;
  for (let at = 0; at < centers.length; at += 1) centers[at]! /= Math.max(1, counts[Math.floor(at / channelCount)]!);
  return weightContexts({ centers, counts, variant, temperature });
}
