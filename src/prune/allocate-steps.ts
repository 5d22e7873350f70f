import { allocateSparsity } from '../allocation/allocate-sparsity.js';
import { allocateStandardised } from '../allocation/allocate-standardised.js';
import type { BlockMeasure } from '../allocation/allocation-rules.js';
import { outlierRatio } from '../allocation/outlier-ratio.js';
import { roundBudget } from '../allocation/round-budget.js';
import type { PrunableModule } from '../architecture/layout.js';
import { type ResolvedOptions, ruleMeasure } from '../options.js';
import { checkEvenHeads, evenCount, type StepCounts } from '../removal/allocate-steps.js';
import { roundSteps, shrinkSteps } from '../removal/plan-removal.js';
import { allocateGlobally, fixedSparsity } from './allocate-globally.js';
import type { DenseObservation } from './dense-observation.js';
import type { RemovalOrderOfModule } from './order-units.js';

/** Steps each selected module loses. */
export function allocateSteps(
  options: ResolvedOptions,
  modules: readonly PrunableModule[],
  dense: DenseObservation,
): StepCounts {
  const orders = dense.orders ?? new Map<PrunableModule, RemovalOrderOfModule>();
  if (options.allocation === 'standardised') return allocateStandardisedSteps(options, modules, orders);
  if (options.allocation === 'global') return allocateGlobally(options, modules, orders);
  const measures = measureBlocks(options, modules, dense);
  const fixedOf = (module: PrunableModule) => fixedSparsity(module, options);
  const sparsities = allocateSparsity({
    rule: options.allocation,
    sparsity: options.sparsity,
    entries: modules.map((module, at) => ({
      parameterCount: module.parameterCount,
      fixed: fixedOf(module),
      maximum: highestSparsity(module, options, dense),
      ...measures[at],
    })),
  });
  const counts = new Map<number, number>();
  const even = options.perBlockKvHeads ? [] : modules.filter(({ kind }) => kind === 'attention');
  const uniform = options.allocation === 'uniform';
  modules.forEach((module, at) => {
    const multiple = module.kind === 'ffn' ? options.widthMultiple : 1;
    const evened = even.includes(module) && !uniform && fixedOf(module) === undefined;
    const sparsity = evened ? options.sparsity : (sparsities[at] ?? 0);
    counts.set(module.index, roundSteps(shrinkSteps(module, options.headUnit).stepCount, sparsity, multiple));
  });
  if (!options.perBlockKvHeads) checkEvenHeads(modules, counts);
  return counts;
}

/** What the allocation rule goes by, one entry a module. */
function measureBlocks(
  { allocation }: ResolvedOptions,
  modules: readonly PrunableModule[],
  { blockChange, sensitivity, orders }: DenseObservation,
): Partial<Record<BlockMeasure, number>>[] {
  if (ruleMeasure(allocation) === 'outlierRatio')
    return modules.map((module) => ({ outlierRatio: outlierRatio(orders!.get(module)!.scores) }));
  return modules.map(({ block }) => ({
    ...(blockChange && { blockChange: blockChange[block]! }),
    ...(sensitivity && { sensitivity: sensitivity[block]! }),
  }));
}

/** A shared group is never pruned, and one step always stays. */
function highestSparsity(
  module: PrunableModule,
  { headUnit }: ResolvedOptions,
  { functional }: DenseObservation,
): number {
  const shared = functional.get(module)?.groups.shared.length ?? 0;
  return 1 - Math.max(1, shared) / shrinkSteps(module, headUnit).stepCount;
}

/** FLAP's AL-AM: scores of the dense model, one threshold over all modules; attention evenly where runtimes need that. */
function allocateStandardisedSteps(
  options: ResolvedOptions,
  modules: readonly PrunableModule[],
  orders: ReadonlyMap<PrunableModule, RemovalOrderOfModule>,
): StepCounts {
  const entries = modules.map((module) => ({
    module,
    scores: orders.get(module)!.costs,
    parametersPerUnit: shrinkSteps(module, options.headUnit).parametersPerStep,
  }));
  const total = entries.reduce((sum, entry) => sum + entry.scores.length * entry.parametersPerUnit, 0);
  const counts = allocateStandardised(entries, options.sparsity);
  const even = options.perBlockKvHeads ? [] : entries.filter(({ module }) => module.kind === 'attention');
  const evenSteps = evenCount(even.map((entry) => counts[entries.indexOf(entry)] ?? 0));
  const spent = even.reduce((sum, entry) => sum + evenSteps * entry.parametersPerUnit, 0);
  const free = entries.filter((entry) => !even.includes(entry));
  const freeTotal = free.reduce((sum, entry) => sum + entry.scores.length * entry.parametersPerUnit, 0);
  const rest = freeTotal === 0 ? 0 : Math.min(Math.max((options.sparsity * total - spent) / freeTotal, 0), 0.99);
  const freeCounts = allocateStandardised(free, rest);
  const rounded = roundBudget(
    free.map((entry, at) => ({
      unitCount: entry.scores.length,
      requested: freeCounts[at] ?? 0,
      parametersPerUnit: entry.parametersPerUnit,
      widthMultiple: entry.module.kind === 'ffn' ? options.widthMultiple : 1,
    })),
  );
  return new Map([
    ...even.map(({ module }) => [module.index, evenSteps] as const),
    ...free.map(({ module }, at) => [module.index, rounded[at] ?? 0] as const),
  ]);
}
