import { allocateSteps } from '../allocation/allocate-steps.js';
import { type ModuleMeasures, parametersOf, stepsOf } from '../allocation/allocation.js';
import type { PrunableModule } from '../architecture/layout.js';
import { sum } from '../linalg/sum.js';
import type { ResolvedOptions } from '../options.js';
import { sharedSource, shrinkSteps } from '../removal/plan-removal.js';
import type { DenseMeasures } from './measure-dense/dense-measures.js';
import type { ModuleRemovalOrder } from './measure-dense/order-units.js';
import { type MixtureSteps, mixtureSteps } from './mixture-steps.js';
import { leastUnits } from './select-modules.js';

/** Steps each module loses, by module index. */
export type StepCounts = ReadonlyMap<number, number>;

/** Steps each selected module loses. @throws OptionError for a budget that cannot be met. */
export function allocateModules(
  options: ResolvedOptions,
  modules: readonly PrunableModule[],
  dense: DenseMeasures,
): StepCounts {
  const { allocation, sparsity, perBlockKvHeads } = options;
  const measured = modules.map((module) => measuresOf(module, options, { dense, modules }));
  const least = options.experts === undefined ? 0 : fixedPart(measured);
  const steps = allocateSteps(allocation, {
    sparsity: Math.max(sparsity, least),
    modules: measured,
    evenHeads: !perBlockKvHeads,
  });
  return new Map(modules.map(({ index }, at) => [index, steps[at]!]));
}

/** Part of the parameters that fixed sparsities remove. */
function fixedPart(modules: readonly ModuleMeasures[]): number {
  const removed = modules.map((module) =>
    module.fixed === undefined ? 0 : stepsOf(module, module.fixed) * module.parametersPerStep,
  );
  return sum(removed) / parametersOf(modules);
}

/** Sparsity that the user fixed for a module. Of modules that share keys and values, the lowest applies to all. */
export function fixedSparsity(
  module: PrunableModule,
  { blockSparsity, headUnit, experts }: Pick<ResolvedOptions, 'blockSparsity' | 'headUnit'> & FixedExperts,
  modules: readonly PrunableModule[],
): number | undefined {
  const source = sharedSource(module, headUnit);
  const sharing = source === undefined ? [module] : modules.filter((other) => sharedSource(other, headUnit) === source);
  const given = sharing.flatMap(({ block, kind }) => {
    const own = blockSparsity.get(block);
    return (typeof own === 'number' ? own : own?.[kind]) ?? [];
  });
  if (given.length > 0) return Math.min(...given);
  if (module.kind !== 'experts' || experts === undefined) return undefined;
  return Math.max(0, 1 - experts / module.unitCount);
}

/** Number of experts that every mixture keeps, if requested. */
interface FixedExperts {
  readonly experts?: number | undefined;
}

/** A mixture's steps of experts and neurons, instead of those of entire experts. */
const stepsOfMixture = ({ costs, parameters }: MixtureSteps, { scores }: ModuleRemovalOrder) => ({
  stepCount: costs.length,
  parametersPerStep: Math.min(...parameters),
  stepParameters: parameters,
  // No step removes units that must remain.
  minimumKept: 0,
  order: { scores, costs },
});

/** Measures of the dense model, and its selected modules. */
export interface Measured {
  readonly dense: DenseMeasures;
  readonly modules: readonly PrunableModule[];
}

/** Measures of a module for an allocation. */
export function measuresOf(
  module: PrunableModule,
  options: ResolvedOptions,
  { dense, modules }: Measured,
): ModuleMeasures {
  const { index, block, kind, attentionType, unitCount, parameterCount } = module;
  const { allocation, denseWidths, headUnit, minimumWidth = 0, widthMultiple } = options;
  const { stepCount, parametersPerStep, unitsPerStep } = shrinkSteps(module, headUnit);
  const { blockChange, sensitivity, orders } = dense;
  const keyValueSource = sharedSource(module, headUnit);
  const fixed = fixedSparsity(module, options, modules);
  const least = Math.ceil(leastUnits(module, options) / (kind === 'experts' ? unitsPerStep : 1));
  const floor = kind === 'ffn' ? Math.ceil(minimumWidth * (denseWidths?.get(index) ?? stepCount)) : 0;
  // A shared group is never pruned.
  const shared = dense.functional.get(module)?.groups.shared.length ?? 0;
  const order = orders?.get(module);
  const mixture = mixtureSteps(module, { options, order });
  return {
    block,
    kind,
    attentionType,
    ...(keyValueSource !== undefined && { keyValueSource }),
    parameterCount,
    unitCount,
    stepCount,
    parametersPerStep,
    fixed,
    minimumKept: fixed === undefined ? Math.max(least, floor, shared) : least,
    multiple: kind === 'ffn' ? widthMultiple : 1,
    order,
    ...(mixture && stepsOfMixture(mixture, order!)),
    ...(allocation.measures?.includes('blockChange') && { blockChange: blockChange![block]! }),
    ...(allocation.measures?.includes('sensitivity') && { sensitivity: sensitivity![block]! }),
  };
}
