import { createPointMeter, fitFeatures, type PointMeter } from '../../activations/project-features.js';
import type { ModelLayout, PrunableModule } from '../../architecture/layout.js';
import { clusterContexts } from '../../grouping/cluster-contexts.js';
import { findTypicalTokens } from '../../grouping/find-typical-tokens.js';
import type { ResolvedGrouping } from '../../options.js';
import type { BlockRunner } from '../../runtime/block-runner.js';
import { type PruneContext, segmentName } from '../prune-context.js';
import type { ModuleContexts } from './dense-measures.js';

/** A search for the contexts of an FFN or a mixture of experts: tokens are projected to points, then clustered. */
export interface ContextSearch {
  /** Projects tokens while the module's segment runs. */
  readonly meter: PointMeter;
  /** Clusters the points, when the meter has read all batches. */
  finish(): ModuleContexts;
}

/** A module, and settings for its contexts. */
export interface ContextSearchRequest {
  readonly module: PrunableModule;
  readonly grouping: ResolvedGrouping;
}

/** Value that is clustered into a module's contexts. */
export const contextFeature = ({ segments }: ModelLayout, { module, grouping }: ContextSearchRequest): string =>
  grouping.features === 'residual' ? segments[module.segment - 1]!.input : module.input;

/** Fits the principal components of a module's input; cheap, since at most the norm before it runs. */
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
