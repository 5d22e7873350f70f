import { collectStatistics, type StatisticsTarget } from '../activations/collect-statistics.js';
import type { StageMeter } from '../activations/stage-meter.js';
import { sumByContext } from '../activations/sum-by-context.js';
import type { PrunableModule } from '../architecture/layout.js';
import type { ChannelStatistics, StatisticsNeed } from '../compensation/adapter.js';
import { WEIGHTING_VARIANTS } from '../grouping/weighting-variants.js';
import { channelsOf } from '../removal/score-module.js';
import type { Batch, BlockRunner } from '../runtime/block-runner.js';
import { cacheValues } from './cache-values.js';
import type { FunctionalModule } from './measure-dense/dense-measures.js';
import { type PruneContext, segmentName } from './prune-context.js';
import { weightGroups } from './weight-groups.js';

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
