import { collectStatistics, type StatisticsTarget } from '../activations/collect-statistics.js';
import { projectFeatures } from '../activations/project-features.js';
import { sumByContext } from '../activations/sum-by-context.js';
import type { PrunableModule } from '../architecture/layout.js';
import {
  type ChannelStatistics,
  type CompensationAdapter,
  EMPTY_STATISTICS,
  type LinearWeight,
  type StatisticsNeed,
} from '../compensation/adapter.js';
import { assignContexts } from '../grouping/refine-centers.js';
import { weightInLossMetric } from '../importance/loss-metric.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { channelsOf, judgeModule, type ScoredModule } from '../removal/judge-module.js';
import { readLinearWeight } from '../removal/repair-linear.js';
import type { Batch, BlockRunner } from '../runtime/block-runner.js';
import type { HiddenStates } from '../runtime/hidden-states.js';
import type { FunctionalModule } from './dense-observation.js';
import { type Run, segmentName } from './run.js';
import { weighGroups } from './weigh-groups.js';

export interface SegmentCase {
  readonly model: OnnxModel;
  /** Stands at the segment; absent for methods that look at no token. */
  readonly runner: BlockRunner | undefined;
  /** Modules of one segment. */
  readonly modules: readonly PrunableModule[];
  readonly adapter: CompensationAdapter;
  /** Modules whose neurons are grouped by function; the others are one group each. */
  readonly functional: ReadonlyMap<PrunableModule, FunctionalModule>;
  /** The loss's curvature at each module's output, by module index, where scores are taken in its metric. */
  readonly curvatures?: HiddenStates | undefined;
}

/** Measures a segment's modules on the hidden states that stand before it, and scores their units. */
export async function judgeSegment(run: Run, given: SegmentCase): Promise<ScoredModule[]> {
  const { model, modules, adapter, functional, curvatures } = given;
  const { options } = run.job;
  const unitsOf = (module: PrunableModule) => functional.get(module)?.groups.functions ?? [allUnits(module)];
  const statistics = await measure(run, given, unitsOf);
  const scored: ScoredModule[] = [];
  for (const [at, module] of modules.entries()) {
    const weight = await readLinearWeight(model, module.output);
    const groups = unitsOf(module).map((units, k) => ({ units, statistics: statistics[at]?.[k] ?? EMPTY_STATISTICS }));
    const judged = await run.timed('score', async () =>
      judgeModule({
        module,
        weight,
        scoredWeight: await inLossMetric(weight, module, { curvatures, multiply: run.multiply }),
        groups,
        adapter,
        headUnit: options.headUnit,
        random: run.random,
        multiply: run.multiply,
      }),
    );
    run.remarks.push(...judged.remarks.map((remark) => `block ${module.block} ${module.kind}: ${remark}`));
    scored.push(judged);
  }
  return scored;
}

async function inLossMetric(
  weight: LinearWeight,
  module: PrunableModule,
  { curvatures, multiply }: Pick<SegmentCase, 'curvatures'> & Pick<Run, 'multiply'>,
): Promise<LinearWeight | undefined> {
  if (curvatures === undefined) return undefined;
  const { data } = await curvatures.get(module.index);
  return weightInLossMetric(weight, Float64Array.from(data as Float32Array), multiply);
}

const allUnits = ({ unitCount }: PrunableModule): Int32Array =>
  Int32Array.from({ length: unitCount }, (_, unit) => unit);

async function measure(
  run: Run,
  { runner, modules, adapter, functional }: SegmentCase,
  unitsOf: (module: PrunableModule) => readonly Int32Array[],
): Promise<ChannelStatistics[][]> {
  const { needs } = adapter;
  const [first] = modules;
  if (runner === undefined || needs === 'none' || first === undefined) return [];
  const detail = segmentName(first.segment, run.job.analysed.detected.layout.modules);
  if (modules.length === 1) holdChannels(run, runner, first);
  return run.timed('measure', async () => {
    const targets: StatisticsTarget[] = [];
    for (const module of modules) {
      const found = functional.get(module);
      const groups = unitsOf(module).map((units) => channelsOf(module, units));
      const tokenWeights = found && (await weighTokens(run, { runner, module, found, needs }));
      targets.push({ linear: module.output, needs, groups, ...(tokenWeights && { tokenWeights }) });
    }
    return collectStatistics(runner, { targets, onBatch: () => run.tick(detail) });
  });
}

/**
 * Has a module's channels kept, so that later looks and the pruned module start from them: they do not depend on which of
 * them leave. Where a segment has two modules, one's channels may depend on what the other loses.
 */
function holdChannels({ batches }: Run, runner: BlockRunner, { output }: PrunableModule): void {
  const tokenCount = batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const byteCount = tokenCount * output.inputCount * Float32Array.BYTES_PER_ELEMENT;
  if (byteCount <= HELD_BYTES) runner.hold([output.input]);
}

/** Beyond this, channels are computed again instead. */
const HELD_BYTES = 512 * 2 ** 20;

interface WeighCase {
  readonly runner: BlockRunner;
  readonly module: PrunableModule;
  readonly found: FunctionalModule;
  readonly needs: Exclude<StatisticsNeed, 'none'>;
}

/** Token weights on the part-pruned model: contexts by the dense model's centres, context centres in h-space anew. */
async function weighTokens(
  run: Run,
  { runner, module, found }: WeighCase,
): Promise<((batch: Batch) => Float32Array) | undefined> {
  const { weighting } = run.job.options;
  if (weighting.variant === 'uniform') return undefined;
  const { feature, pca, centers, contextCount } = found.contexts;
  const points = await projectFeatures(runner, { value: feature, pca });
  const contextOfToken = assignContexts(points, centers, pca.componentCount);
  const { input: value, inputCount: channelCount } = module.output;
  const sumsOfWindow = await sumByContext(runner, { value, channelCount, contextOfToken, contextCount });
  const windowLength = run.batches[0]?.sequenceLength ?? 1;
  return weighGroups({ sumsOfWindow, contextOfToken, contextCount, windowLength }, weighting);
}
