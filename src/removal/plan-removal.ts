import type { PrunableModule } from '../architecture/layout.js';

/**
 * Units to remove from grouped-query attention: a KV head with all its query heads (`group`), or the same number of query
 * heads from every group (`query`). Multi-head attention always loses single heads.
 */
export type HeadUnit = 'group' | 'query';

/**
 * How a module can shrink: `stepCount` equal steps, of which at least one remains. A step is a neuron, a head, a KV group
 * with its query heads (`group`), or one query head of every group (`query`). Of experts in groups it is one of every group.
 */
export interface ShrinkSteps {
  readonly stepCount: number;
  readonly parametersPerStep: number;
  /** Units that one step removes. */
  readonly unitsPerStep: number;
}

/** Steps of a module under the chosen head unit. */
export function shrinkSteps(module: PrunableModule, headUnit: HeadUnit): ShrinkSteps {
  const { unitCount, groupCount, parametersPerUnit, parametersPerGroup } = module;
  if (groupCount === undefined) return { stepCount: unitCount, parametersPerStep: parametersPerUnit, unitsPerStep: 1 };
  const members = unitCount / groupCount;
  return headUnit === 'group' && module.kind !== 'experts'
    ? {
        stepCount: groupCount,
        parametersPerStep: members * parametersPerUnit + parametersPerGroup,
        unitsPerStep: members,
      }
    : { stepCount: members, parametersPerStep: groupCount * parametersPerUnit, unitsPerStep: groupCount };
}

/** Index of the module whose shared keys and values are removed with this module's steps. */
export const sharedSource = (
  { keyValueSource, groupOfUnit }: PrunableModule,
  headUnit: HeadUnit,
): number | undefined => (groupOfUnit === undefined || headUnit === 'group' ? keyValueSource : undefined);
