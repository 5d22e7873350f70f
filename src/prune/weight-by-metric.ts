import type { PrunableModule } from '../architecture/layout.js';
import type { LinearWeight } from '../compensation/adapter.js';
import { weightInMetric } from '../importance/weight-in-metric.js';
import { withModuleContext } from '../removal/score-module.js';
import type { PruneContext } from './prune-context.js';

/** Transforms a module's output weight by the metric, see `weightInMetric`, and adds its remarks to the context. */
export async function weightByMetric(
  context: Pick<PruneContext, 'multiply' | 'remarks'>,
  module: PrunableModule,
  { weight, curvature }: { readonly weight: LinearWeight; readonly curvature: Float64Array },
): Promise<LinearWeight> {
  const transformed = await withModuleContext(module, () => weightInMetric(weight, curvature, context.multiply));
  context.remarks.push(...transformed.remarks.map((remark) => `block ${module.block} ${module.kind}: ${remark}`));
  return transformed.weight;
}
