import { sum } from '../linalg/sum.js';
import type { Progress } from '../progress.js';

/** An expected step of a job. Several steps of one stage are distinguished by order. */
export interface ExpectedStep {
  readonly stage: string;
  /** Expected time. Only ratios matter once the job has started. */
  readonly ms: number;
  /** Fraction of the stage's `total` that is done before the step. Default 0. */
  readonly from?: number;
}

/** Computes the fraction done and the remaining time of a job. */
export interface OverallProgress {
  /** Sets the expected steps in order; earlier steps count as done. */
  expect(steps: readonly ExpectedStep[]): void;
  /** The progress with `overall` and `remainingMs`. */
  add(progress: Progress): Progress;
}

/** Largest fraction: only the job itself reports the end. */
const MAX_FRACTION = 0.995;
/** Weight of the prior of a step's speed, as a fraction of the step: that of `ticks` progress events, within bounds. */
const PRIOR_WEIGHT = { ticks: 3, least: 0.03, most: 0.08 };
/** Weight of the prior for a stage that was measured before. */
const STAGE_WEIGHT = 0.2;
/** Weight of the prior for the entire job, whose expected times are those of the reference machine. */
const MACHINE_WEIGHT = 0.005;
/** A step without inner progress that takes less than this fraction of its expected time was done by an earlier run. */
const SKIPPED = 0.05;
/** Least inner progress, as a fraction of the step, for an estimate of its speed. */
const MIN_MEASURED = 0.2;

/** Shorter remaining times are not shown: opening a session takes as long. */
const MIN_MS = 4000;

/** Uncertainty of a step whose stage was not measured: relative, and for one-time work of a process. */
const UNMEASURED = { share: 0.15, ms: 400 };
/** Largest relative uncertainty of a shown remaining time. */
const MAX_UNCERTAIN = 0.25;

/** The remaining time is shown after this time and this measured fraction, once estimates differ by no more than this factor. */
const STABLE = { ms: 2000, fraction: 0.01, windowMs: 1500, windowFraction: 0.2, factor: 1.2 };

/** Measured and expected time. */
interface Measured {
  ms: number;
  expectedMs: number;
}

/** Progress of a step at a time. */
interface Mark {
  readonly at: number;
  readonly fraction: number;
}

interface Estimate {
  readonly doneMs: number;
  readonly remainingMs: number;
  /** Uncertainty of the remaining time, for unmeasured work. */
  readonly uncertainMs: number;
}

interface OpenStep extends ExpectedStep {
  readonly index: number;
  readonly begunAt: number;
  /** Steps that start with a `total` of 1 set the real one later. */
  total: number;
  /** The first mark with that total: earlier progress may come from a previous run, and is not used for speed. */
  first: Mark;
  last: Mark;
}

/**
 * Weights steps by expected times, corrected by measured speeds of the step, its stage and the job. Without expected
 * steps, each stage has its own progress.
 * @param now In milliseconds.
 */
export function createOverallProgress(now: () => number): OverallProgress {
  const startedAt = now();
  const stages = new Map<string, Measured>();
  let steps: readonly ExpectedStep[] = [];
  let open: OpenStep | undefined;
  let totals: { readonly at: number; readonly totalMs: number }[] = [];
  let overall = 0;

  /** Whether an event belongs to the open step. Repeated work increases the total and decreases the fraction. */
  const isOpen = ({ stage, total }: Progress, fraction: number): boolean => {
    if (open?.stage !== stage) return false;
    const { fraction: last } = open.last;
    return fraction >= last - 1e-9 || (fraction > 0 && last > 0 && last < 1 && total > open.total);
  };

  function begin(step: ExpectedStep & { readonly index: number }, mark: Mark, total: number): void {
    close(mark.at);
    open = { ...step, begunAt: mark.at, total, first: mark, last: mark };
  }

  /** Records the speed of the ended step. */
  function close(at: number): void {
    if (open === undefined) return;
    const seen = stages.get(open.stage) ?? { ms: 0, expectedMs: 0 };
    const found = measureStep(open, at, ratioOf(open.stage));
    if (found !== undefined)
      stages.set(open.stage, { ms: seen.ms + found.ms, expectedMs: seen.expectedMs + found.expectedMs });
  }

  /** Measured time of a stage relative to the expected time. */
  function ratioOf(stage: string): number {
    const all = [...stages.values()];
    const current = open && steps.length > 0 ? sinceFirst(open) : { ms: 0, expectedMs: 0 };
    const machine = MACHINE_WEIGHT * sum(steps.map(({ ms }) => ms));
    const measured = sum(all.map(({ ms }) => ms)) + current.ms;
    const expected = sum(all.map(({ expectedMs }) => expectedMs)) + current.expectedMs;
    const job = expected + machine > 0 ? (measured + machine) / (expected + machine) : 1;
    const own = stages.get(stage);
    if (own === undefined || own.expectedMs === 0) return job;
    const weight = STAGE_WEIGHT * own.expectedMs;
    return (own.ms + weight * job) / (own.expectedMs + weight);
  }

  /** Remaining time of the open step in ms. */
  function remainingOfOpen(step: OpenStep, at: number): number {
    const { ms, expectedMs } = sinceFirst(step);
    const { ticks, least, most } = PRIOR_WEIGHT;
    const weight = Math.max(least, Math.min(most, ticks / step.total)) * step.ms;
    const ratio = expectedMs + weight > 0 ? (ms + weight * ratioOf(step.stage)) / (expectedMs + weight) : 1;
    const left = ratio * step.ms * fractionLeft(step);
    return Math.max(0, left - (at - step.last.at));
  }

  function estimate(step: OpenStep, at: number): Estimate {
    const own = remainingOfOpen(step, at);
    const costOf = ({ stage, ms }: ExpectedStep) => ms * ratioOf(stage);
    const later = steps.slice(step.index + 1);
    const { share, ms } = UNMEASURED;
    const unmeasured = later.filter(({ stage }) => stage !== step.stage && !stages.has(stage)).map(costOf);
    if (sinceFirst(step).expectedMs < MIN_MEASURED * step.ms && !stages.has(step.stage)) unmeasured.push(own);
    return {
      doneMs: sum(steps.slice(0, step.index).map(costOf)) + costOf(step) * (1 - fractionLeft(step)),
      remainingMs: own + sum(later.map(costOf)),
      uncertainMs: share * sum(unmeasured) + ms * unmeasured.length,
    };
  }

  /** Whether estimates of the total time are stable. */
  function isStable(at: number, totalMs: number): boolean {
    const elapsed = at - startedAt;
    const from = at - Math.max(STABLE.windowMs, STABLE.windowFraction * elapsed);
    totals.push({ at, totalMs });
    // The estimate before the window is its initial value.
    const first = totals.findLastIndex((one) => one.at <= from);
    if (first > 0) totals = totals.slice(first);
    const recent = totals.map((one) => one.totalMs);
    return elapsed >= STABLE.ms && first >= 0 && Math.max(...recent) <= STABLE.factor * Math.min(...recent);
  }

  function measuredFraction(): number {
    const measured = [...stages.values(), ...(open ? [sinceFirst(open)] : [])];
    return sum(measured.map(({ expectedMs }) => expectedMs)) / sum(steps.map(({ ms }) => ms));
  }

  function addUnplanned(progress: Progress, mark: Mark): Progress {
    const { stage, total } = progress;
    if (!isOpen(progress, mark.fraction) || open!.total !== total) {
      totals = [];
      open = { stage, ms: 1, index: 0, begunAt: mark.at, total, first: mark, last: mark };
    }
    open!.last = mark;
    const [ms, done] = [mark.at - open!.first.at, mark.fraction - open!.first.fraction];
    if (!(done > 0)) return progress;
    const remainingMs = (ms / done) * (1 - mark.fraction);
    const isShown = isStable(mark.at, ms + remainingMs) && ms >= STABLE.ms && remainingMs >= MIN_MS;
    return isShown ? { ...progress, remainingMs } : progress;
  }

  return {
    expect(expected) {
      steps = expected;
      open = undefined;
      totals = [];
    },
    add(progress) {
      const { stage, done, total } = progress;
      const mark = { at: now(), fraction: total > 0 ? Math.min(1, done / total) : 0 };
      if (steps.length === 0) return addUnplanned(progress, mark);
      if (!isOpen(progress, mark.fraction)) {
        const index = steps.findIndex((step, at) => at > (open?.index ?? -1) && step.stage === stage);
        if (index >= 0) begin({ ...steps[index]!, index }, mark, total);
      }
      if (open === undefined) return { ...progress, overall };
      if (isOpen(progress, mark.fraction)) {
        if (total !== open.total) {
          open.total = total;
          open.first = mark;
        }
        open.last = mark;
      }
      const { doneMs, remainingMs, uncertainMs } = estimate(open, mark.at);
      overall = Math.min(MAX_FRACTION, Math.max(overall, doneMs / (doneMs + remainingMs)));
      const isShown =
        isStable(mark.at, mark.at - startedAt + remainingMs) &&
        measuredFraction() >= STABLE.fraction &&
        uncertainMs <= MAX_UNCERTAIN * remainingMs &&
        remainingMs >= MIN_MS;
      return { ...progress, overall, ...(isShown && { remainingMs }) };
    },
  };
}

/** Remaining fraction of the step. */
const fractionLeft = ({ from = 0, last }: OpenStep): number =>
  from < 1 ? Math.min(1, (1 - last.fraction) / (1 - from)) : 0;

/** Time that a step took since its first mark, and the time expected for it. */
function sinceFirst({ from = 0, ms, first, last }: OpenStep): Measured {
  const share = from < 1 ? (last.fraction - first.fraction) / (1 - from) : 0;
  return { ms: share > 0 ? last.at - first.at : 0, expectedMs: share * ms };
}

/** Speed of an ended step; undefined if an earlier run had done it. */
function measureStep(step: OpenStep, at: number, ratio: number): Measured | undefined {
  const { from = 0, first, last } = step;
  const seen = sinceFirst(step);
  const hasResumed = first.fraction > from + MIN_MEASURED;
  if (seen.expectedMs >= MIN_MEASURED * step.ms && !hasResumed) return { ms: at - step.begunAt, expectedMs: step.ms };
  if (seen.expectedMs > 0 && hasResumed) return seen;
  const hasNoProgress = last.fraction === first.fraction;
  const ms = at - step.begunAt;
  return hasNoProgress && !hasResumed && ms >= SKIPPED * step.ms * ratio ? { ms, expectedMs: step.ms } : undefined;
}
