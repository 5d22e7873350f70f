import { allocateByThreshold, type ThresholdEntry } from '../../allocation/allocate-by-threshold.js';
import type { PrunableModule } from '../../architecture/layout.js';
import type { ResolvedOptions } from '../../options.js';
import { checkEvenHeads, type StepCounts } from '../../removal/allocate-steps.js';
import { roundSteps, shrinkSteps } from '../../removal/plan-removal.js';
import type { RemovalOrderOfModule } from '../measure-dense/order-units.js';

/**
 * One threshold on what removals cost the dense model, over all modules. Where runtimes read one head count for all
 * blocks, attention's n-th steps leave together in all of them: one entry with the sum of their costs.
 */
export function allocateGlobally(
  options: ResolvedOptions,
  modules: readonly PrunableModule[],
  orders: ReadonlyMap<PrunableModule, RemovalOrderOfModule>,
): StepCounts {
  const even = options.perBlockKvHeads ? [] : modules.filter(({ kind }) => kind === 'attention');
  const joint = even.filter((module) => fixedSparsity(module, options) === undefined);
  const single = modules.filter((module) => !joint.includes(module)).map((module) => [module]);
  const teams = [...(joint.length > 0 ? [joint] : []), ...single];
  const entries = teams.map((team) => joinEntries(team.map((module) => entryOf(module, orders.get(module)!, options))));
  const counts = allocateByThreshold(entries, options.sparsity);
  const found = new Map(teams.flatMap((team, at) => team.map((module) => [module.index, counts[at]!] as const)));
  if (even.length > 0) checkEvenHeads(modules, found);
  return found;
}

/** What the user fixed for a module: its own sparsity, or 0 in a block that is skipped. */
export function fixedSparsity(
  { block, kind }: PrunableModule,
  { blockSparsity, skipBlocks }: ResolvedOptions,
): number | undefined {
  const given = blockSparsity.get(block);
  const own = typeof given === 'number' ? given : given?.[kind];
  return own ?? (skipBlocks.has(block) ? 0 : undefined);
}

function entryOf(module: PrunableModule, { costs }: RemovalOrderOfModule, options: ResolvedOptions): ThresholdEntry {
  const { stepCount, parametersPerStep } = shrinkSteps(module, options.headUnit);
  const multiple = module.kind === 'ffn' ? options.widthMultiple : 1;
  const mayGo = module.kind === 'ffn' && options.minimumWidth === 0;
  const width = options.denseWidths?.get(module.index) ?? stepCount;
  const floor = module.kind === 'ffn' ? Math.ceil((options.minimumWidth ?? 0) * width) : 1;
  const fixed = fixedSparsity(module, options);
  return {
    costs,
    parametersPerStep,
    parameterCount: module.parameterCount,
    minimumKept: mayGo ? 0 : Math.max(1, floor),
    multiple,
    ...(fixed !== undefined && { fixed: fixed === 1 && mayGo ? stepCount : roundSteps(stepCount, fixed, multiple) }),
  };
}

function joinEntries(entries: readonly ThresholdEntry[]): ThresholdEntry {
  const [first] = entries;
  if (entries.length === 1) return first!;
  const length = Math.min(...entries.map(({ costs }) => costs.length));
  const sum = (pick: (entry: ThresholdEntry) => number) => entries.reduce((total, entry) => total + pick(entry), 0);
  return {
    costs: Float64Array.from({ length }, (_, step) => sum(({ costs }) => costs[step]!)),
    parametersPerStep: sum(({ parametersPerStep }) => parametersPerStep),
    parameterCount: sum(({ parameterCount }) => parameterCount),
  };
}
