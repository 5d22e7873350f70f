import { allocateSparsity } from '../../allocation/allocate-sparsity.js';
import { allocateStandardised, type StandardisedEntry } from '../../allocation/allocate-standardised.js';
import type { AllocationRuleName, BlockMeasure } from '../../allocation/allocation-rules.js';
import { outlierRatio } from '../../allocation/outlier-ratio.js';
import { roundBudget } from '../../allocation/round-budget.js';
import type { PrunableModule } from '../../architecture/layout.js';
import { OptionError } from '../../errors.js';
import { type ResolvedOptions, ruleMeasure } from '../../options.js';
import { checkEvenHeads, evenCount, type StepCounts } from '../../removal/allocate-steps.js';
import { roundSteps, shrinkSteps } from '../../removal/plan-removal.js';
import type { DenseMeasures } from '../measure-dense/dense-measures.js';
import type { RemovalOrderOfModule } from '../measure-dense/order-units.js';
import { allocateGlobally, fixedSparsity } from './allocate-globally.js';

/** Steps each selected module loses. */
export function allocateSteps(
  options: ResolvedOptions,
  modules: readonly PrunableModule[],
  dense: DenseMeasures,
): StepCounts {
  const orders = dense.orders ?? new Map<PrunableModule, RemovalOrderOfModule>();
  if (options.allocation === 'standardised') return allocateStandardisedSteps(options, modules, orders);
  if (options.allocation === 'global') return allocateGlobally(options, modules, orders);
  return allocateByRule(options, options.allocation, { modules, dense });
}

interface RuleCase {
  readonly modules: readonly PrunableModule[];
  readonly dense: DenseMeasures;
}

/**
 * A rule gives every module its sparsity. Heads are few and large: what rounding them leaves of the budget is the FFNs', but
 * where all modules are to lose the same share.
 */
function allocateByRule(options: ResolvedOptions, rule: AllocationRuleName, { modules, dense }: RuleCase): StepCounts {
  const measures = measureBlocks(options, modules, dense);
  const allocate = (sparsity: number, fixedOf: (module: PrunableModule) => number | undefined) =>
    allocateSparsity({
      rule,
      sparsity,
      entries: modules.map((module, at) => ({
        parameterCount: module.parameterCount,
        fixed: fixedOf(module),
        maximum: highestSparsity(module, options, dense),
        ...measures[at],
      })),
    });
  const fixedOf = (module: PrunableModule) => fixedSparsity(module, options);
  const stepsOf = (module: PrunableModule, sparsity: number) =>
    roundSteps(
      shrinkSteps(module, options.headUnit).stepCount,
      sparsity,
      module.kind === 'ffn' ? options.widthMultiple : 1,
    );
  const counts = new Map<number, number>();
  let sparsities = allocate(options.sparsity, fixedOf);
  modules.forEach((module, at) => {
    const isEven = module.kind === 'attention' && needsEvenHeads(options) && fixedOf(module) === undefined;
    counts.set(module.index, stepsOf(module, isEven ? options.sparsity : sparsities[at]!));
  });
  if (!options.perBlockKvHeads) checkEvenHeads(modules, counts);
  const isOpen = (module: PrunableModule) => module.kind === 'ffn' && fixedOf(module) === undefined;
  if (rule === 'uniform' || modules.every(({ kind }) => kind === 'ffn') || !modules.some(isOpen)) return counts;
  const rounded = (module: PrunableModule) =>
    counts.get(module.index)! / shrinkSteps(module, options.headUnit).stepCount;
  const known = (module: PrunableModule) => (isOpen(module) ? undefined : (fixedOf(module) ?? rounded(module)));
  const highest = (module: PrunableModule) => known(module) ?? highestSparsity(module, options, dense);
  const [least, most] = [meanSparsity(modules, (module) => known(module) ?? 0), meanSparsity(modules, highest)];
  sparsities = allocate(Math.min(most, Math.max(least, options.sparsity)), known);
  modules.forEach((module, at) => {
    if (isOpen(module)) counts.set(module.index, stepsOf(module, sparsities[at]!));
  });
  return counts;
}

/** Part of the modules' parameters that leaves. */
function meanSparsity(modules: readonly PrunableModule[], sparsityOf: (module: PrunableModule) => number): number {
  const total = modules.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
  return modules.reduce((sum, module) => sum + (sparsityOf(module) * module.parameterCount) / total, 0);
}

/** Whether blocks that the rule would treat differently must still lose equally many heads. */
const needsEvenHeads = ({ perBlockKvHeads, allocation }: ResolvedOptions): boolean =>
  !perBlockKvHeads && allocation !== 'uniform';

/** What the allocation rule goes by, one entry a module. */
function measureBlocks(
  { allocation }: ResolvedOptions,
  modules: readonly PrunableModule[],
  { blockChange, sensitivity, orders }: DenseMeasures,
): Partial<Record<BlockMeasure, number>>[] {
  if (ruleMeasure(allocation) === 'outlierRatio')
    return modules.map((module) => ({ outlierRatio: outlierRatio(orders!.get(module)!.scores) }));
  return modules.map(({ block }) => ({
    ...(blockChange && { blockChange: blockChange[block]! }),
    ...(sensitivity && { sensitivity: sensitivity[block]! }),
  }));
}

/** A shared group is never pruned, and one step always stays. */
function highestSparsity(module: PrunableModule, { headUnit }: ResolvedOptions, { functional }: DenseMeasures): number {
  const shared = functional.get(module)?.groups.shared.length ?? 0;
  return 1 - Math.max(1, shared) / shrinkSteps(module, headUnit).stepCount;
}

/**
 * FLAP's AL-AM: scores of the dense model, one threshold over all modules; attention evenly where runtimes need that. The
 * others make up for modules whose sparsity is fixed.
 */
function allocateStandardisedSteps(
  options: ResolvedOptions,
  modules: readonly PrunableModule[],
  orders: ReadonlyMap<PrunableModule, RemovalOrderOfModule>,
): StepCounts {
  const { headUnit, perBlockKvHeads } = options;
  const entries = modules.map((module) => ({
    module,
    scores: orders.get(module)!.costs,
    parametersPerUnit: shrinkSteps(module, headUnit).parametersPerStep,
    widthMultiple: module.kind === 'ffn' ? options.widthMultiple : 1,
    fixed: fixedSparsity(module, options),
  }));
  const set = new Map<StandardisedModule, number>();
  for (const entry of entries)
    if (entry.fixed !== undefined) set.set(entry, roundSteps(entry.scores.length, entry.fixed, entry.widthMultiple));
  const competing = entries.filter((entry) => !set.has(entry));
  const left = sparsityLeft(options.sparsity, entries, set);
  if (left >= 1) {
    throw new OptionError(
      `sparsity ${options.sparsity} asks for ${(100 * left).toFixed(1)} % of what is neither skipped nor fixed; lower the sparsity or free more blocks`,
    );
  }
  const counts = allocateStandardised(competing, left);
  const even = perBlockKvHeads ? [] : competing.filter(({ module }) => module.kind === 'attention');
  const evenSteps = evenCount(even.map((entry) => counts[competing.indexOf(entry)] ?? 0));
  for (const entry of even) set.set(entry, evenSteps);
  const free = entries.filter((entry) => !set.has(entry));
  const freeCounts = allocateStandardised(free, Math.min(sparsityLeft(options.sparsity, entries, set), 0.99));
  const rounded = roundBudget(
    free.map((entry, at) => ({ ...entry, unitCount: entry.scores.length, requested: freeCounts[at] ?? 0 })),
  );
  free.forEach((entry, at) => {
    set.set(entry, rounded[at] ?? 0);
  });
  const found = new Map(entries.map((entry) => [entry.module.index, set.get(entry)!] as const));
  if (!perBlockKvHeads) checkEvenHeads(modules, found);
  return found;
}

interface StandardisedModule extends StandardisedEntry {
  readonly module: PrunableModule;
}

/** What the entries whose steps are not set yet must lose, as a fraction of theirs. */
function sparsityLeft(
  sparsity: number,
  entries: readonly StandardisedModule[],
  set: ReadonlyMap<StandardisedModule, number>,
): number {
  let budget = 0;
  let open = 0;
  for (const entry of entries) {
    const { scores, parametersPerUnit } = entry;
    budget += (sparsity * scores.length - (set.get(entry) ?? 0)) * parametersPerUnit;
    if (!set.has(entry)) open += scores.length * parametersPerUnit;
  }
  return open === 0 ? 0 : Math.max(0, budget / open);
}
