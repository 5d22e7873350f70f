import type { PrunableModule } from '../architecture/layout.js';
import { type ChannelStatistics, EMPTY_STATISTICS, type LinearWeight } from '../compensation/adapter.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { ResolvedOptions } from '../options.js';
import { sharedSource } from '../removal/plan-removal.js';
import { readLinearWeight } from '../removal/repair-linear.js';
import { type ScoredModule, scoreModule } from '../removal/score-module.js';
import type { TensorStore } from '../runtime/tensor-store.js';
import type { DenseMeasures } from './measure-dense/dense-measures.js';
import { unitGroups } from './measure-modules.js';
import type { PruneContext } from './prune-context.js';
import { weightByMetric } from './weight-by-metric.js';

export interface SegmentCase {
  readonly model: OnnxModel;
  /** Modules of one segment. */
  readonly modules: readonly PrunableModule[];
  /** Statistics by module and function group; empty for methods that read no token. */
  readonly statistics: readonly (readonly ChannelStatistics[])[];
  readonly dense: DenseMeasures;
  /** The metric's curvature at each module's output, by module index; absent for a metric without. */
  readonly curvatures?: Pick<TensorStore, 'get'> | undefined;
}

/** Scores the units of a segment's modules by their statistics. */
export async function scoreSegment(context: PruneContext, given: SegmentCase): Promise<ScoredModule[]> {
  const { model, modules, statistics, dense, curvatures } = given;
  const { options } = context.job;
  const scored: ScoredModule[] = [];
  for (const [at, module] of modules.entries()) {
    const weight = await readLinearWeight(model, module.output);
    const groups = unitGroups(module, dense.functional.get(module)).map((units, k) => ({
      units,
      statistics: statistics[at]?.[k] ?? EMPTY_STATISTICS,
    }));
    const order = decidingOrder(options, dense, module);
    const found = await context.timed('score', async () =>
      scoreModule({
        module,
        weight,
        scoredWeight: order === undefined ? await inMetric(context, { weight, module, curvatures }) : undefined,
        groups,
        order,
        adapter: options.adapter,
        headUnit: options.headUnit,
        random: context.random,
        multiply: context.multiply,
      }),
    );
    context.remarks.push(...found.remarks.map((remark) => `block ${module.block} ${module.kind}: ${remark}`));
    scored.push(found);
  }
  return scored;
}

/**
 * Scores of the dense model's removal order, if they decide: if the allocation is based on them, or several blocks share heads.
 * Function groups are scored on the pruned model.
 */
function decidingOrder(
  { allocation, headUnit }: ResolvedOptions,
  { orders, functional }: DenseMeasures,
  module: PrunableModule,
): Float64Array | undefined {
  const decides = allocation.ordersDecide || sharedSource(module, headUnit) !== undefined;
  return decides && !functional.has(module) ? orders?.get(module)?.scores : undefined;
}

async function inMetric(
  context: PruneContext,
  {
    weight,
    module,
    curvatures,
  }: Pick<SegmentCase, 'curvatures'> & {
    readonly weight: LinearWeight;
    readonly module: PrunableModule;
  },
): Promise<LinearWeight | undefined> {
  if (curvatures === undefined) return undefined;
  const { data } = await curvatures.get(module.index);
  return weightByMetric(context, module, { weight, curvature: Float64Array.from(data as Float32Array) });
}
