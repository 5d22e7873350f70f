import { createPointMeter, fitFeatures, type PointMeter } from '../../activations/project-features.js';
import type { PrunableModule } from '../../architecture/layout.js';
import { clusterContexts } from '../../grouping/cluster-contexts.js';
import { findTypicalTokens } from '../../grouping/find-typical-tokens.js';
import type { ResolvedGrouping } from '../../options.js';
import type { BlockRunner } from '../../runtime/block-runner.js';
import { type PruneContext, segmentName } from '../prune-context.js';
import type { ModuleContexts } from './dense-measures.js';

/** Contexts of an FFN whose tokens are still to be seen as points. */
export interface ContextSearch {
  readonly module: PrunableModule;
  /** To go with the run of the FFN's segment. */
  readonly meter: PointMeter;
  /** Clusters the points, once the meter has seen all batches. */
  finish(): ModuleContexts;
}

/** Finds the principal components of what an FFN reads; cheap, since nothing but the norm in front of it runs. */
export async function searchContexts(
  context: PruneContext,
  runner: BlockRunner,
  { module, grouping }: { readonly module: PrunableModule; readonly grouping: ResolvedGrouping },
): Promise<ContextSearch> {
  const { options, analysed } = context.job;
  const { layout } = analysed.detected;
  const feature = grouping.features === 'residual' ? layout.segments[module.segment - 1]!.input : module.input;
  const width = analysed.facts.first.get(feature)?.dims.at(-1) ?? layout.hiddenSize;
  const pca = await fitFeatures(runner, { value: feature, width, multiply: context.multiply });
  const meter = createPointMeter({ value: feature, pca, index: module.index }, context.batches);
  return {
    module,
    meter,
    finish() {
      const { points } = meter;
      const { contextCount, clusterBalance, fitCount } = grouping;
      const found = clusterContexts({
        points,
        dimensionCount: pca.componentCount,
        contextCount,
        clusterBalance,
        fitCount,
        seed: options.seed,
        centers: context.job.centersOf?.(module),
      });
      const detail = segmentName(module.segment, layout.modules);
      context.remarks.push(...found.remarks.map((remark) => `${detail}: ${remark}`));
      return {
        feature,
        pca,
        centers: found.centers,
        contextCount: found.contextCount,
        contextOfToken: found.contextOfToken,
        typicalTokens: findTypicalTokens({ points, ...found }),
      };
    },
  };
}
