import { createPointMeter, fitFeatures, type PointMeter } from '../../activations/project-features.js';
import type { ModelLayout, PrunableModule } from '../../architecture/layout.js';
import { clusterContexts } from '../../grouping/cluster-contexts.js';
import { findTypicalTokens } from '../../grouping/find-typical-tokens.js';
import type { ResolvedGrouping } from '../../options.js';
import type { BlockRunner } from '../../runtime/block-runner.js';
import { type PruneContext, segmentName } from '../prune-context.js';
import type { ModuleContexts } from './dense-measures.js';

/** Contexts of an FFN, or of a mixture of experts, whose tokens are still to be seen as points. */
export interface ContextSearch {
  readonly module: PrunableModule;
  /** To go with the run of the module's segment. */
  readonly meter: PointMeter;
  /** Clusters the points, once the meter has seen all batches. */
  finish(): ModuleContexts;
}

/** A module, and how its tokens are told apart. */
export interface ContextSearchRequest {
  readonly module: PrunableModule;
  readonly grouping: ResolvedGrouping;
}

/** Value that the contexts of a module are seen in. */
export const contextFeature = ({ segments }: ModelLayout, { module, grouping }: ContextSearchRequest): string =>
  grouping.features === 'residual' ? segments[module.segment - 1]!.input : module.input;

/** Finds the principal components of what a module reads; cheap, since nothing but the norm in front of it runs. */
export async function searchContexts(
  context: PruneContext,
  runner: BlockRunner,
  { module, grouping }: ContextSearchRequest,
): Promise<ContextSearch> {
  const { options, analysed } = context.job;
  const { layout } = analysed.detected;
  const feature = contextFeature(layout, { module, grouping });
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
