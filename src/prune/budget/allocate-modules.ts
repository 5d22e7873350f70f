import { allocateSteps } from '../../allocation/allocate-steps.js';
import type { ModuleMeasures } from '../../allocation/allocation.js';
import type { PrunableModule } from '../../architecture/layout.js';
import type { ResolvedOptions } from '../../options.js';
import { shrinkSteps } from '../../removal/plan-removal.js';
import type { DenseMeasures } from '../measure-dense/dense-measures.js';
import { leastUnits } from '../select-modules.js';

/** Steps each module loses, by module index. */
export type StepCounts = ReadonlyMap<number, number>;

/** Steps each selected module loses. @throws OptionError for a budget that cannot be met. */
export function allocateModules(
  options: ResolvedOptions,
  modules: readonly PrunableModule[],
  dense: DenseMeasures,
): StepCounts {
  const { allocation, sparsity, perBlockKvHeads } = options;
  const measured = modules.map((module) => measuresOf(module, options, dense));
  const steps = allocateSteps(allocation, { sparsity, modules: measured, evenHeads: !perBlockKvHeads });
  return new Map(modules.map(({ index }, at) => [index, steps[at]!]));
}

/** What the user fixed for a module. */
export function fixedSparsity({ block, kind }: PrunableModule, { blockSparsity }: ResolvedOptions): number | undefined {
  const given = blockSparsity.get(block);
  return typeof given === 'number' ? given : given?.[kind];
}

/** What an allocation knows of a module. */
export function measuresOf(module: PrunableModule, options: ResolvedOptions, dense: DenseMeasures): ModuleMeasures {
  const { index, block, kind, attentionType, unitCount, parameterCount } = module;
  const { allocation, denseWidths, headUnit, minimumWidth = 0, widthMultiple } = options;
  const { stepCount, parametersPerStep } = shrinkSteps(module, headUnit);
  const { blockChange, sensitivity, orders } = dense;
  const fixed = fixedSparsity(module, options);
  const least = leastUnits(module, options);
  const floor = kind === 'ffn' ? Math.ceil(minimumWidth * (denseWidths?.get(index) ?? stepCount)) : 0;
  // A shared group is never pruned.
  const shared = dense.functional.get(module)?.groups.shared.length ?? 0;
  return {
    block,
    kind,
    attentionType,
    parameterCount,
    unitCount,
    stepCount,
    parametersPerStep,
    fixed,
    minimumKept: fixed === undefined ? Math.max(least, floor, shared) : least,
    multiple: kind === 'ffn' ? widthMultiple : 1,
    order: orders?.get(module),
    ...(allocation.measures?.includes('blockChange') && { blockChange: blockChange![block]! }),
    ...(allocation.measures?.includes('sensitivity') && { sensitivity: sensitivity![block]! }),
  };
}
