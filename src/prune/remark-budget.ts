import type { PrunableModule } from '../architecture/layout.js';
import { sum } from '../linalg/sum.js';
import type { ResolvedOptions } from '../options.js';
import { removedParameters } from '../removal/removed-parameters.js';
import type { PruneOutcome } from './job.js';
import { mayRemoveNeurons } from './mixture-steps.js';

interface Removal {
  readonly sparsity: number;
  readonly outcome: Pick<PruneOutcome, 'modules'>;
}

/**
 * Remarks on a run that removed more or less than requested, beyond the rounding of neurons.
 * @param modules Modules that could lose units.
 */
export function remarkBudget(
  options: ResolvedOptions,
  modules: readonly PrunableModule[],
  { sparsity, outcome }: Removal,
): string[] {
  const total = sum(modules.map(({ parameterCount }) => parameterCount));
  const removed = outcome.modules.map((cut) => ({ kind: cut.module.kind, count: removedParameters(cut) }));
  const byExperts = sum(removed.map(({ kind, count }) => (kind === 'experts' ? count : 0)));
  // A requested number of experts may remove more than the sparsity.
  const requested = Math.max(sparsity * total, options.experts === undefined ? 0 : byExperts);
  const achieved = sum(removed.map(({ count }) => count));
  const [wanted, found] = [requested, achieved].map((count) => `${((100 * count) / total).toFixed(1)} %`);
  const rounding = sum(modules.map((module) => neuronStep(module, options) / 2));
  if (wanted === found || Math.abs(achieved - requested) <= rounding) return [];
  return [`requested ${wanted} of the prunable parameters, removed ${found}: ${describeSteps(options, modules)}`];
}

/** Parameters of one neuron, or of one neuron of each expert; 0 if only larger parts are removed. */
function neuronStep(module: PrunableModule, options: ResolvedOptions): number {
  const { kind, parametersPerUnit, unitCount, neurons } = module;
  if (kind === 'ffn') return parametersPerUnit;
  return mayRemoveNeurons(module, options) ? unitCount * neurons!.parametersPerUnit : 0;
}

/** Describes units that can only be removed in large steps, and the remedy. */
function describeSteps(options: ResolvedOptions, modules: readonly PrunableModule[]): string {
  const { headUnit, perBlockKvHeads, widthMultiple, allocationName } = options;
  const attention = modules.filter(({ kind }) => kind === 'attention');
  const isGrouped = attention.some(({ groupCount, unitCount }) => groupCount !== undefined && groupCount < unitCount);
  const heads = !isGrouped
    ? 'whole heads'
    : headUnit === 'group'
      ? 'whole KV groups'
      : 'a head of every KV group at a time';
  const hasExperts = modules.some((module) => module.kind === 'experts' && !mayRemoveNeurons(module, options));
  const reasons = [
    ...(allocationName === 'custom' ? ['the allocation is custom'] : []),
    ...(attention.length > 0
      ? [`attention loses ${heads}${perBlockKvHeads ? '' : ', equally many in all blocks'}`]
      : []),
    ...(hasExperts ? ['only whole experts are removed'] : []),
    ...(widthMultiple > 1 ? [`widths stay multiples of ${widthMultiple}`] : []),
  ];
  const text = reasons.join('; ') || 'modules lose whole units';
  // All other allocations let FFNs make up for the rounding of heads and experts.
  const kinds = new Set(modules.map(({ kind }) => kind));
  const isEven = allocationName === 'uniform' && kinds.has('ffn') && kinds.size > 1;
  return isEven ? `${text}. With another allocation, FFNs make up for that` : text;
}
