import { createOverallProgress, type ExpectedStep } from '../../src/pipeline/overall-progress.js';
import type { Progress } from '../../src/progress.js';

/** A step of a simulated job: its ticks, and the time of each. Without ticks, the time of the step. */
interface ActualStep {
  readonly stage: string;
  readonly ticks: number;
  readonly ms: number;
  /** Ticks that an earlier run has done. */
  readonly done?: number;
}

interface Reported extends Progress {
  readonly at: number;
}

/** Progress that is reported during a simulated job, and its end. */
function simulate(expected: readonly ExpectedStep[], actual: readonly ActualStep[]) {
  let at = 0;
  const overall = createOverallProgress(() => at);
  const reported: Reported[] = [];
  const report = (progress: Progress) => void reported.push({ at, ...overall.add(progress) });
  overall.expect(expected);
  for (const { stage, ticks, ms, done = 0 } of actual) {
    report({ stage, done: 0, total: 1 });
    if (done > 0) report({ stage, done, total: ticks });
    for (let tick = done + 1; tick <= ticks; tick += 1) {
      at += ms;
      report({ stage, done: tick, total: ticks });
    }
    if (ticks === 0) at += ms;
  }
  return { reported, end: at };
}

/** Largest relative error of the remaining time, after a tenth of the job and while more than `least` of it remained. */
function worstError({ reported, end }: ReturnType<typeof simulate>, least = 0.05): number {
  const later = reported.filter(
    ({ at, remainingMs }) => at >= end / 10 && end - at > least * end && remainingMs !== undefined,
  );
  return Math.max(...later.map(({ at, remainingMs }) => Math.abs(remainingMs! / (end - at) - 1)));
}

const step = (stage: string, ms: number, from?: number): ExpectedStep => ({ stage, ms, ...(from && { from }) });

const RUN: readonly ExpectedStep[] = [
  step('generate', 20_000),
  step('measure', 10_000),
  step('gradients', 20_000),
  step('prune', 40_000),
  step('save', 500),
  step('certify', 8000),
];

const asExpected = (factor: number): ActualStep[] =>
  RUN.map(({ stage, ms }) => ({
    stage,
    ticks: stage === 'certify' ? 3 : 50,
    ms: (factor * ms) / (stage === 'certify' ? 3 : 50),
  }));

describe('remainingMs', () => {
  it.each([0.5, 1, 5])('is right after a tenth of the job on a machine %d times as slow', (factor) => {
    const simulated = simulate(RUN, asExpected(factor));
    expect(worstError(simulated)).toBeLessThan(0.1);
    expect(simulated.reported.filter(({ remainingMs }) => remainingMs !== undefined).length).toBeGreaterThan(100);
  });

  it('is corrected by the measured times of a stage, in its later steps too', () => {
    const rungs = [
      step('measure', 5000),
      ...Array.from({ length: 6 }, () => [step('prune', 10_000), step('save', 1000)]).flat(),
    ];
    const actual = rungs.map(({ stage, ms }) => ({
      stage,
      ticks: 20,
      ms: (stage === 'prune' ? 3 : 1) * (ms / 20),
    }));
    const { reported, end } = simulate(rungs, actual);
    const late = reported.filter(({ at }) => at > 0.25 * end && at < 0.95 * end);
    expect(Math.max(...late.map(({ at, remainingMs }) => Math.abs(remainingMs! / (end - at) - 1)))).toBeLessThan(0.1);
  });

  it('is not shown before it is stable', () => {
    const wrong = [step('measure', 1000), step('prune', 1000)];
    const { reported } = simulate(wrong, [
      { stage: 'measure', ticks: 10, ms: 300 },
      { stage: 'prune', ticks: 100, ms: 3000 },
    ]);
    const [first] = reported.filter(({ remainingMs }) => remainingMs !== undefined);
    expect(first!.at).toBeGreaterThanOrEqual(2000);
    // While the estimate rises from seconds to minutes, it is not shown.
    const shown = reported.filter(({ stage, remainingMs }) => stage === 'prune' && remainingMs !== undefined);
    expect(shown.length).toBeGreaterThan(50);
    for (const { at, remainingMs } of shown.filter(({ done }) => done > 8 && done < 100))
      expect(remainingMs! / (303_000 - at)).toBeGreaterThan(0.7);
  });

  it('ignores work of an earlier run when it measures the speed', () => {
    const actual = asExpected(2);
    const [, , , prune] = actual;
    const resumed: ActualStep[] = [
      { stage: 'generate', ticks: 0, ms: 5 },
      { stage: 'measure', ticks: 0, ms: 5 },
      { ...actual[2]!, done: 35 },
      prune!,
      ...actual.slice(4),
    ];
    expect(worstError(simulate(RUN, resumed))).toBeLessThan(0.25);
  });

  it('counts a step that continues another one, as windows of healing do', () => {
    const steps = [step('generate', 10_000), step('generate', 30_000, 0.25), step('heal', 40_000)];
    const simulated = simulate(steps, [
      { stage: 'generate', ticks: 50, ms: 200 },
      { stage: 'generate', ticks: 200, ms: 200, done: 50 },
      { stage: 'heal', ticks: 100, ms: 400 },
    ]);
    expect(worstError(simulated)).toBeLessThan(0.1);
  });

  it('includes repeated work, which increases the total of a step', () => {
    let at = 0;
    const overall = createOverallProgress(() => at);
    overall.expect([step('heal', 20_000), step('certify', 2000)]);
    const reported: Reported[] = [];
    const report = (progress: Progress) => void reported.push({ at, ...overall.add(progress) });
    report({ stage: 'heal', done: 0, total: 1 });
    for (let tick = 1; tick <= 150; tick += 1) {
      at += 400;
      report({ stage: 'heal', done: tick, total: tick < 50 ? 100 : 150 });
    }
    report({ stage: 'certify', done: 0, total: 1 });
    at += 6000;
    const repeated = reported.filter((one) => one.done >= 60 && one.remainingMs !== undefined);
    expect(repeated.length).toBeGreaterThan(30);
    expect(worstError({ reported: repeated, end: at })).toBeLessThan(0.3);
  });

  it('is that of the stage if no steps are expected', () => {
    const { reported, end } = simulate([], [{ stage: 'download', ticks: 100, ms: 200 }]);
    expect(reported.every(({ overall }) => overall === undefined)).toBe(true);
    expect(reported.find(({ done }) => done === 50)!.remainingMs).toBeCloseTo(end / 2);
  });
});

describe('overall', () => {
  it('never falls, and never reaches 1', () => {
    const { reported } = simulate(
      [step('prune', 10), step('save', 10)],
      [
        { stage: 'save', ticks: 3, ms: 5 },
        { stage: 'prune', ticks: 9, ms: 900 },
        { stage: 'save', ticks: 3, ms: 5 },
      ],
    );
    const fractions = reported.map(({ overall }) => overall!);
    expect(fractions).toEqual(fractions.toSorted((a, b) => a - b));
    expect(Math.max(...fractions)).toBeLessThan(1);
  });

  it('is proportional to the elapsed time', () => {
    const { reported, end } = simulate(RUN, asExpected(1));
    for (const { at, overall } of reported.filter((one) => one.at > 0 && one.at < 0.98 * end))
      expect(overall! / (at / end)).toBeCloseTo(1, 0);
  });

  it('counts skipped stages as done', () => {
    const { reported } = simulate(RUN, [{ stage: 'certify', ticks: 3, ms: 2000 }]);
    expect(reported[0]!.overall).toBeGreaterThan(0.9);
  });
});
