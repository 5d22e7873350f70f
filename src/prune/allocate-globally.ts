import { allocateByThreshold, type ThresholdEntry } from '../allocation/allocate-by-threshold.js';
import type { PrunableModule } from '../architecture/layout.js';
import type { ResolvedOptions } from '../options.js';
import { checkEvenHeads, type StepCounts } from '../removal/allocate-steps.js';
import { roundSteps, shrinkSteps } from '../removal/plan-removal.js';
import type { RemovalOrderOfModule } from './order-units.js';

/**
 * How much more than its even share an FFN may lose by default. Costs are read off the dense model, and the farther an FFN
 * is cut the less they hold; on SmolLM2 this cut the rise of ln perplexity at 40 % by a seventh.
 */
const LARGEST_EXCESS = 1.25;

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
  const least = options.leastWidths ?? leastWidths(options, modules);
  const entries = teams.map((team) =>
    joinEntries(team.map((module) => entryOf(module, orders.get(module)!, options, least.get(module.index) ?? 1))),
  );
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

/**
 * Neurons that each FFN keeps in any case, by module index. By default no FFN loses more than `LARGEST_EXCESS` times what
 * all FFNs would lose if they met the budget alone; that gives way to multiples, what the user asked for does not.
 */
export function leastWidths(options: ResolvedOptions, modules: readonly PrunableModule[]): ReadonlyMap<number, number> {
  const { minimumWidth, widthMultiple } = options;
  const ffns = modules.filter(({ kind }) => kind === 'ffn');
  const largest = LARGEST_EXCESS * sparsityOfFfnsAlone(options, modules);
  const least = ({ unitCount }: PrunableModule): number => {
    if (minimumWidth === 0) return 0;
    if (minimumWidth !== undefined) return Math.max(1, Math.ceil(minimumWidth * unitCount));
    return Math.max(1, Math.floor(((1 - largest) * unitCount) / widthMultiple) * widthMultiple);
  };
  return new Map(ffns.map((module) => [module.index, least(module)]));
}

/** What the FFNs that are free to shrink would lose if no attention head left. */
function sparsityOfFfnsAlone(options: ResolvedOptions, modules: readonly PrunableModule[]): number {
  let budget = options.sparsity * modules.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
  let free = 0;
  for (const module of modules) {
    const fixed = fixedSparsity(module, options);
    if (fixed !== undefined) budget -= fixed * module.parameterCount;
    else if (module.kind === 'ffn') free += module.parameterCount;
  }
  return free === 0 ? 0 : Math.max(0, budget / free);
}

function entryOf(
  module: PrunableModule,
  { costs }: RemovalOrderOfModule,
  options: ResolvedOptions,
  minimumKept: number,
): ThresholdEntry {
  const { stepCount, parametersPerStep } = shrinkSteps(module, options.headUnit);
  const multiple = module.kind === 'ffn' ? options.widthMultiple : 1;
  const fixed = fixedSparsity(module, options);
  return {
    costs,
    parametersPerStep,
    parameterCount: module.parameterCount,
    minimumKept,
    multiple,
    ...(fixed !== undefined && {
      fixed: fixed === 1 && minimumKept === 0 ? stepCount : roundSteps(stepCount, fixed, multiple),
    }),
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
