import type { PrunableModule } from '../architecture/layout.js';

/**
 * What is removed of grouped-query attention: a KV head with all its query heads (`group`), or the same number of query
 * heads from every group (`query`). Multi-head attention always loses single heads.
 */
export type HeadUnit = 'group' | 'query';

/**
 * How a module can shrink: `stepCount` equal steps, of which at least one stays. A step is a neuron, a head, a KV group
 * with its query heads (`group`), or one query head of every group (`query`).
 */
export interface ShrinkSteps {
  readonly stepCount: number;
  readonly parametersPerStep: number;
  /** Units that leave with one step. */
  readonly unitsPerStep: number;
}

/** Steps of a module under the chosen head unit. */
export function shrinkSteps(module: PrunableModule, headUnit: HeadUnit): ShrinkSteps {
  const { unitCount, groupCount, parametersPerUnit, parametersPerGroup } = module;
  if (groupCount === undefined) return { stepCount: unitCount, parametersPerStep: parametersPerUnit, unitsPerStep: 1 };
  const members = unitCount / groupCount;
  return headUnit === 'group'
    ? {
        stepCount: groupCount,
        parametersPerStep: members * parametersPerUnit + parametersPerGroup,
        unitsPerStep: members,
      }
    : { stepCount: members, parametersPerStep: groupCount * parametersPerUnit, unitsPerStep: groupCount };
}

/**
 * Steps to remove for one sparsity, the same for every module of equal shape, so that one width fits all blocks.
 * @param sparsity In [0, 1). @param widthMultiple Steps kept are a multiple of this (or all of them), the nearest one.
 */
export function roundSteps(stepCount: number, sparsity: number, widthMultiple = 1): number {
  const kept = Math.round(((1 - sparsity) * stepCount) / widthMultiple) * widthMultiple;
  return stepCount - Math.min(stepCount, Math.max(Math.min(widthMultiple, stepCount), kept));
}
