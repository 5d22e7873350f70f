import type { Allocation } from '../allocation/allocation.js';
import type { UnderstoodModel } from '../runtime/analyse-model.js';
import { checkpoint } from '../runtime/journal.js';
import { allocateModules, type StepCounts } from './allocate-modules.js';
import { draftJob, pruneDraft, splitDraftWindows } from './drafts.js';
import type { AllocationCandidate, PruneJob } from './job.js';
import type { MeasuredModel } from './measure-dense/measure-dense.js';
import { measureDivergences } from './measure-divergences.js';

/** Result of a comparison. */
export interface ChosenAllocation {
  readonly allocation: Allocation;
  /** Absent: there was nothing to compare. */
  readonly candidates?: readonly AllocationCandidate[];
}

/** Fraction by which a candidate must be better than the first one. */
const MARGIN = 0.03;

/** Name of the journal's entry with the drafts' divergences. */
const CHECKPOINT = 'candidates';

/**
 * Chooses between the candidates of an allocation: each prunes a draft on some calibration windows, without refinements, and
 * the drafts' predictions on others are compared with the dense model's. The first candidate is used unless another is clearly
 * better. Removal orders and costs of units are those of all windows.
 *
 * @returns The job's allocation if it has no candidates, they remove the same units, or there are no windows to compare on.
 */
export async function chooseAllocation(measured: MeasuredModel, job: PruneJob): Promise<ChosenAllocation> {
  const { modules, dense, read } = measured;
  const { options, windows } = job;
  const named = Object.entries(options.allocation.candidates ?? {});
  const unchanged = { allocation: options.allocation };
  if (named.length < 2 || read !== undefined || windows.length < 2) return unchanged;
  const countsOf = (allocation: Allocation) => allocateModules({ ...options, allocation }, modules, dense);
  const tried = named
    .map(([name, allocation]) => ({ name, allocation, counts: countsOf(allocation) }))
    .filter(({ counts }, at, all) => all.findIndex((other) => isSame(other.counts, counts)) === at);
  if (tried.length < 2) return { allocation: tried[0]?.allocation ?? unchanged.allocation };
  const divergences = await checkpoint(job.journal, CHECKPOINT, { make: () => compareDrafts(measured, job, tried) });
  const best = pickBest(divergences);
  return {
    allocation: tried[best]!.allocation,
    candidates: tried.map(({ name }, at) => ({ name, divergence: divergences[at]!, chosen: at === best })),
  };
}

/** The first one, unless another is better by more than the comparison's noise. */
function pickBest(divergences: readonly number[]): number {
  const lowest = Math.min(...divergences);
  return lowest < divergences[0]! * (1 - MARGIN) ? divergences.indexOf(lowest) : 0;
}

const isSame = (a: StepCounts, b: StepCounts): boolean => [...a].every(([index, count]) => b.get(index) === count);

interface Draft {
  readonly allocation: Allocation;
  readonly counts: StepCounts;
}

async function compareDrafts(measured: MeasuredModel, job: PruneJob, tried: readonly Draft[]): Promise<number[]> {
  const { engine, analysed, model, options } = job;
  const { onProgress, signal } = options;
  const { drafted, compared } = splitDraftWindows(job.windows);
  let done = 0;
  const report = (fraction = 0) =>
    onProgress?.({ stage: 'candidates', done: done + Math.min(fraction, 0.99), total: tried.length });
  const drafts = async function* (): AsyncGenerator<UnderstoodModel> {
    for (const { allocation, counts } of tried) {
      const own = draftJob(job, { allocation, windows: drafted, onProgress: report });
      yield await pruneDraft(own, measured, counts);
      done += 1;
      report();
    }
  };
  report();
  return measureDivergences({ model, analysed }, drafts(), { engine, signal, windows: compared });
}

/** Remark about the comparison. */
export function remarkCandidates(candidates: readonly AllocationCandidate[]): string {
  const figures = candidates.map(({ name, divergence }) => `${name} ${divergence.toPrecision(3)}`);
  const { name } = candidates.find(({ chosen }) => chosen)!;
  return `compared ${candidates.length} allocations by their divergence on held-out windows, in nats per token: ${figures.join(', ')}; chose ${name}`;
}
