import { createCurvatureMeter } from '../../activations/curvature-meter.js';
import { createAffinityMeter, type TokenContexts } from '../../activations/measure-affinity.js';
import type { BackwardMeter } from '../../activations/walk-backwards.js';
import type { PrunableModule } from '../../architecture/layout.js';
import type { ChannelStatistics, CompensationAdapter } from '../../compensation/adapter.js';
import type { OnnxModel } from '../../onnx/onnx-model.js';
import { readLinearWeight } from '../../removal/repair-linear.js';
import type { PruneContext } from '../prune-context.js';
import { seeInMetric } from '../shrink/see-in-metric.js';
import type { DenseNeeds, ModuleContexts } from './dense-measures.js';
import type { KeptStatistics } from './kept-statistics.js';
import { orderUnits, type RemovalOrderOfModule } from './order-units.js';

interface BackwardRequest {
  readonly module: PrunableModule;
  readonly needs: DenseNeeds;
  /** What the way forwards measured for the orders. */
  readonly kept: Pick<KeptStatistics, 'get'> | undefined;
  readonly contexts: ModuleContexts | undefined;
}

/** What is measured of a module on the way back, and what came of it. */
export interface BackwardMeasurement {
  readonly module: PrunableModule;
  readonly meters: readonly BackwardMeter[];
  /** Takes what the meters saw once they have seen all batches; nothing as large as a Gram outlives it. */
  finish(): Promise<void>;
  readonly found: { affinity?: Float64Array; order?: RemovalOrderOfModule };
}

/** Measures what hangs on the loss at one module: affinity to contexts, curvature, and the order of removal in its metric. */
export function measureBackwards(
  context: PruneContext,
  model: OnnxModel,
  { module, needs, kept, contexts }: BackwardRequest,
): BackwardMeasurement {
  const { curvatures } = needs;
  const found: BackwardMeasurement['found'] = {};
  const affinity =
    module.kind === 'ffn' && (needs.grouping !== undefined || needs.sensitivity)
      ? createAffinityMeter(module, contexts ?? oneContext(context))
      : undefined;
  const curvature = curvatures && createCurvatureMeter(module);
  return {
    module,
    meters: [...(affinity ? [affinity] : []), ...(curvature ? [curvature] : [])],
    found,
    async finish() {
      if (affinity) found.affinity = affinity.finish();
      const matrix = curvature?.finish();
      if (matrix && curvatures) {
        const dims = [module.output.outputCount, module.output.outputCount];
        await curvatures.put(module.index, { type: 'float32', dims, data: Float32Array.from(matrix) });
      }
      // Without curvature the order was found on the way forwards.
      const adapter = matrix && needs.order;
      if (adapter === undefined) return;
      const statistics = await kept!.get(module);
      found.order = await orderModule(context, model, { module, adapter, curvature: matrix, statistics });
    },
  };
}

export interface OrderRequest {
  readonly module: PrunableModule;
  readonly adapter: CompensationAdapter;
  readonly curvature: Float64Array | undefined;
  readonly statistics: ChannelStatistics;
}

/** Orders a module's units by the dense model's statistics. */
export async function orderModule(
  context: PruneContext,
  model: OnnxModel,
  given: OrderRequest,
): Promise<RemovalOrderOfModule> {
  const { curvature, module } = given;
  const { random, multiply } = context;
  const weight = await readLinearWeight(model, module.output);
  return context.timed('order', async () => {
    const scoredWeight = curvature && (await seeInMetric(context, module, { weight, curvature }));
    const { headUnit } = context.job.options;
    return orderUnits({ ...given, weight, scoredWeight, headUnit, random, multiply });
  });
}

/** All tokens alike. */
export const oneContext = ({ batches }: PruneContext): TokenContexts => ({
  contextCount: 1,
  contextOfToken: new Int32Array(batches.reduce((sum, { tokens }) => sum + tokens.length, 0)),
});
