import type { ModuleCut } from './apply-change.js';

/** Parameters removed with a module's units. */
export function removedParameters({ module, keep, neurons }: ModuleCut): number {
  const { unitCount, parametersPerUnit, parametersPerGroup, groupOfUnit, groupCount = 0 } = module;
  const remainingGroups = groupOfUnit ? new Set(keep.map((unit) => groupOfUnit[unit]!)).size : groupCount;
  const units = (unitCount - keep.length) * parametersPerUnit + (groupCount - remainingGroups) * parametersPerGroup;
  if (neurons === undefined) return units;
  const inside = module.neurons!;
  return units + (keep.length * inside.unitCount - neurons.length) * inside.parametersPerUnit;
}
