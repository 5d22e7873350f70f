import { sum } from '../linalg/sum.js';
import type { Progress } from '../progress.js';

/** A step that a job is expected to take. Several steps may be of one stage: their order distinguishes them. */
export interface ExpectedStep {
  readonly stage: string;
  /** Time that it is expected to take. Only ratios matter once the job has begun. */
  readonly ms: number;
  /** Fraction of the stage's `total` that is done before the step begins. Default 0. */
  readonly from?: number;
}

/** Computes from the steps of a job the fraction done and the remaining time. */
export interface OverallProgress {
  /** Sets the steps that the job will take, in their order; those that it has taken already count as done. */
  expect(steps: readonly ExpectedStep[]): void;
  /** The progress with `overall` and `remainingMs`. */
  add(progress: Progress): Progress;
}

/** Only the job itself reports the end. */
const MOST = 0.995;
/**
 * Weight of what is known of a step's speed relative to what the step itself has shown, as a fraction of the step: so many ticks of it,
 * within these bounds.
 */
const PRIOR_WEIGHT = { ticks: 3, least: 0.03, most: 0.08 };
/** Such a weight for a stage that was measured before, besides all stages. */
const STAGE_WEIGHT = 0.2;
/** Of the job as a whole: its expected times are those of another machine. */
const MACHINE_WEIGHT = 0.005;
/** A step without inner progress that ends sooner than this fraction of what is expected was done by an earlier run. */
const SKIPPED = 0.05;
/** Inner progress, as a fraction of the step, from which on its speed says something about the stage. */
const TELLING = 0.2;

/** Below this no time left is shown: opening a session takes as long. */
const LEAST_MS = 4000;

/** How far what is expected of a step may be off before its stage was measured: by this share, and by what a process does once. */
const UNMEASURED = { share: 0.15, ms: 400 };
/** No time left is shown that may be off by more, as a fraction of it. */
const MOST_UNCERTAIN = 0.25;

/** No time left is shown until the job took so long, this much of it was measured, and estimates differ by no more than this factor. */
const STABLE = { ms: 2000, fraction: 0.01, windowMs: 1500, windowFraction: 0.2, factor: 1.2 };

/** Time measured for work, and what had been expected for it. */
interface Measured {
  ms: number;
  expectedMs: number;
}

/** Where a step was at some moment. */
interface Mark {
  readonly at: number;
  readonly fraction: number;
}

interface Estimate {
  readonly doneMs: number;
  readonly remainingMs: number;
  /** How far the time left may be off, for what was not measured yet. */
  readonly uncertainMs: number;
}

interface OpenStep extends ExpectedStep {
  readonly index: number;
  readonly begunAt: number;
  /** Steps that begin with a `total` of 1 give the real one later. */
  total: number;
  /** The first mark under that total: what was done by then may be an earlier run's, and is no speed. */
  first: Mark;
  last: Mark;
}

/**
 * Weighs steps by their expected times, each corrected by what this run has measured: of the step itself, of its stage, and of
 * the job. Without expected steps, each stage counts by itself.
 * @param now In milliseconds.
 */
export function createOverallProgress(now: () => number): OverallProgress {
  const startedAt = now();
  const stages = new Map<string, Measured>();
  let steps: readonly ExpectedStep[] = [];
  let open: OpenStep | undefined;
  let totals: { readonly at: number; readonly totalMs: number }[] = [];
  let overall = 0;

  /** Whether an event is of the step that is open. Work that is repeated makes its total larger, and so its fraction smaller. */
  const isOpen = ({ stage, total }: Progress, fraction: number): boolean => {
    if (open?.stage !== stage) return false;
    const { fraction: last } = open.last;
    return fraction >= last - 1e-9 || (fraction > 0 && last > 0 && last < 1 && total > open.total);
  };

  function begin(step: ExpectedStep & { readonly index: number }, mark: Mark, total: number): void {
    close(mark.at);
    open = { ...step, begunAt: mark.at, total, first: mark, last: mark };
  }

  /** Notes the speed of the step that ends. */
  function close(at: number): void {
    if (open === undefined) return;
    const seen = stages.get(open.stage) ?? { ms: 0, expectedMs: 0 };
    const found = measureStep(open, at, ratioOf(open.stage));
    if (found !== undefined)
      stages.set(open.stage, { ms: seen.ms + found.ms, expectedMs: seen.expectedMs + found.expectedMs });
  }

  /** How much longer than expected a stage takes, by what was measured until now. */
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

  /** Remaining time of the open step, at a moment. */
  function leftOfOpen(step: OpenStep, at: number): number {
    const { ms, expectedMs } = sinceFirst(step);
    const { ticks, least, most } = PRIOR_WEIGHT;
    const weight = Math.max(least, Math.min(most, ticks / step.total)) * step.ms;
    const ratio = expectedMs + weight > 0 ? (ms + weight * ratioOf(step.stage)) / (expectedMs + weight) : 1;
    const left = ratio * step.ms * shareLeft(step);
    return Math.max(0, left - (at - step.last.at));
  }

  function estimate(step: OpenStep, at: number): Estimate {
    const own = leftOfOpen(step, at);
    const costOf = ({ stage, ms }: ExpectedStep) => ms * ratioOf(stage);
    const later = steps.slice(step.index + 1);
    const { share, ms } = UNMEASURED;
    const unmeasured = later.filter(({ stage }) => stage !== step.stage && !stages.has(stage)).map(costOf);
    if (sinceFirst(step).expectedMs < TELLING * step.ms && !stages.has(step.stage)) unmeasured.push(own);
    return {
      doneMs: sum(steps.slice(0, step.index).map(costOf)) + costOf(step) * (1 - shareLeft(step)),
      remainingMs: own + sum(later.map(costOf)),
      uncertainMs: share * sum(unmeasured) + ms * unmeasured.length,
    };
  }

  /** Whether the estimates of the entire job's time are stable. */
  function isStable(at: number, totalMs: number): boolean {
    const elapsed = at - startedAt;
    const from = at - Math.max(STABLE.windowMs, STABLE.windowFraction * elapsed);
    totals.push({ at, totalMs });
    // The one before the window says what the estimate was when it began.
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
    const isShown = isStable(mark.at, ms + remainingMs) && ms >= STABLE.ms && remainingMs >= LEAST_MS;
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
      overall = Math.min(MOST, Math.max(overall, doneMs / (doneMs + remainingMs)));
      const isShown =
        isStable(mark.at, mark.at - startedAt + remainingMs) &&
        measuredFraction() >= STABLE.fraction &&
        uncertainMs <= MOST_UNCERTAIN * remainingMs &&
        remainingMs >= LEAST_MS;
      return { ...progress, overall, ...(isShown && { remainingMs }) };
    },
  };
}

/** Remaining share of the step. */
const shareLeft = ({ from = 0, last }: OpenStep): number =>
  from < 1 ? Math.min(1, (1 - last.fraction) / (1 - from)) : 0;

/** Time that a step took since its first mark, and the time expected for it. */
function sinceFirst({ from = 0, ms, first, last }: OpenStep): Measured {
  const share = from < 1 ? (last.fraction - first.fraction) / (1 - from) : 0;
  return { ms: share > 0 ? last.at - first.at : 0, expectedMs: share * ms };
}

/** The speed of a step that ends; undefined where it says nothing, since an earlier run had done it. */
function measureStep(step: OpenStep, at: number, ratio: number): Measured | undefined {
  const { from = 0, first, last } = step;
  const seen = sinceFirst(step);
  const hasResumed = first.fraction > from + TELLING;
  if (seen.expectedMs >= TELLING * step.ms && !hasResumed) return { ms: at - step.begunAt, expectedMs: step.ms };
  if (seen.expectedMs > 0 && hasResumed) return seen;
  const isUnticked = last.fraction === first.fraction;
  const ms = at - step.begunAt;
  return isUnticked && !hasResumed && ms >= SKIPPED * step.ms * ratio ? { ms, expectedMs: step.ms } : undefined;
}
