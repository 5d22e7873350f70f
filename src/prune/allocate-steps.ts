import { allocateSparsity } from '../allocation/allocate-sparsity.js';
import { allocateStandardised } from '../allocation/allocate-standardised.js';
import type { BlockMeasure } from '../allocation/allocation-rules.js';
import { outlierRatio } from '../allocation/outlier-ratio.js';
import { roundBudget } from '../allocation/round-budget.js';
import type { PrunableModule } from '../architecture/layout.js';
import { createAdapter } from '../compensation/adapters.js';
import { type ResolvedOptions, ruleMeasure } from '../options.js';
import { checkEvenHeads, evenCount, type StepCounts } from '../removal/allocate-steps.js';
import { roundSteps, shrinkSteps } from '../removal/plan-removal.js';
import type { DenseObservation } from './observe-dense.js';
import type { Run } from './run.js';
import { scoreDense } from './score-dense.js';

/** Steps each selected module loses. */
export async function allocateSteps(
  run: Run,
  modules: readonly PrunableModule[],
  dense: DenseObservation,
): Promise<StepCounts> {
  const { options } = run.job;
  if (options.allocation === 'standardised') return allocateByThreshold(run, modules);
  const measures = await measureBlocks(run, modules, dense);
  const fixedOf = ({ block, kind }: PrunableModule): number | undefined => {
    const given = options.blockSparsity.get(block);
    const own = typeof given === 'number' ? given : given?.[kind];
    return own ?? (options.skipBlocks.has(block) ? 0 : undefined);
  };
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
async function measureBlocks(
  run: Run,
  modules: readonly PrunableModule[],
  { blockChange, sensitivity }: DenseObservation,
): Promise<Partial<Record<BlockMeasure, number>>[]> {
  if (ruleMeasure(run.job.options.allocation) === 'outlierRatio') {
    const scores = await scoreDense(run, modules, createAdapter('wanda'));
    return scores.map((found) => ({ outlierRatio: outlierRatio(found) }));
  }
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
async function allocateByThreshold(run: Run, modules: readonly PrunableModule[]): Promise<StepCounts> {
  const { options } = run.job;
  const scores = await scoreDense(run, modules, options.adapter);
  const entries = modules.map((module, at) => {
    const steps = shrinkSteps(module, options.headUnit);
    return { module, scores: stepScores(module, scores[at]!, options), parametersPerUnit: steps.parametersPerStep };
  });
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

/** Scores by step: a neuron's, a head's, or those of the heads that leave together. */
function stepScores(module: PrunableModule, scores: Float64Array, { headUnit }: ResolvedOptions): Float64Array {
  const { groupOfUnit, groupCount } = module;
  if (groupOfUnit === undefined || groupCount === undefined) return scores;
  const { stepCount } = shrinkSteps(module, headUnit);
  const sums = new Float64Array(stepCount);
  const rank = new Int32Array(groupCount);
  scores.forEach((score, unit) => {
    const group = groupOfUnit[unit]!;
    const step = headUnit === 'group' ? group : rank[group]!++;
    sums[step]! += score;
  });
  return sums;
}
