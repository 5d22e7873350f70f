import type { PrunableModule } from '../architecture/layout.js';
import type { LinearWeight } from '../compensation/adapter.js';
import { weightInMetric } from '../importance/weight-in-metric.js';
import { withModuleContext } from '../removal/score-module.js';
import type { PruneContext } from './prune-context.js';

/** A module's output weight as the metric sees it, with a remark where that took more than usual. */
export async function weightByMetric(
  context: Pick<PruneContext, 'multiply' | 'remarks'>,
  module: PrunableModule,
  { weight, curvature }: { readonly weight: LinearWeight; readonly curvature: Float64Array },
): Promise<LinearWeight> {
  const seen = await withModuleContext(module, () => weightInMetric(weight, curvature, context.multiply));
  context.remarks.push(...seen.remarks.map((remark) => `block ${module.block} ${module.kind}: ${remark}`));
  return seen.weight;
}
