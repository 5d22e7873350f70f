import { createOverallProgress, type ExpectedStep } from '../../src/pipeline/overall-progress.js';
import type { Progress } from '../../src/progress.js';

/** A step as it happens: so many ticks, and how long each takes. Without ticks, the time of the step. */
interface Happening {
  readonly stage: string;
  readonly ticks: number;
  readonly ms: number;
  /** Ticks that an earlier run has done. */
  readonly done?: number;
}

interface Told extends Progress {
  readonly at: number;
}

/** What is told while a job happens, and when it ends. */
function follow(expected: readonly ExpectedStep[], happenings: readonly Happening[]) {
  let at = 0;
  const overall = createOverallProgress(() => at);
  const told: Told[] = [];
  const tell = (progress: Progress) => void told.push({ at, ...overall.add(progress) });
  overall.expect(expected);
  for (const { stage, ticks, ms, done = 0 } of happenings) {
    tell({ stage, done: 0, total: 1 });
    if (done > 0) tell({ stage, done, total: ticks });
    for (let tick = done + 1; tick <= ticks; tick += 1) {
      at += ms;
      tell({ stage, done: tick, total: ticks });
    }
    if (ticks === 0) at += ms;
  }
  return { told, end: at };
}

/** The farthest that a time left was from what followed, while so much of the job was still to come. */
function worst({ told, end }: ReturnType<typeof follow>, least = 0.05): number {
  const later = told.filter(
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

const asExpected = (factor: number): Happening[] =>
  RUN.map(({ stage, ms }) => ({
    stage,
    ticks: stage === 'certify' ? 3 : 50,
    ms: (factor * ms) / (stage === 'certify' ? 3 : 50),
  }));

describe('the time left', () => {
  it.each([0.5, 1, 5])('is right from the first tenth on, on a machine %d times as slow as expected', (factor) => {
    const followed = follow(RUN, asExpected(factor));
    expect(worst(followed)).toBeLessThan(0.1);
    expect(followed.told.filter(({ remainingMs }) => remainingMs !== undefined).length).toBeGreaterThan(100);
  });

  it('is corrected by what a stage takes, in its other steps too', () => {
    const rungs = [
      step('measure', 5000),
      ...Array.from({ length: 6 }, () => [step('prune', 10_000), step('save', 1000)]).flat(),
    ];
    const happenings = rungs.map(({ stage, ms }) => ({
      stage,
      ticks: 20,
      ms: (stage === 'prune' ? 3 : 1) * (ms / 20),
    }));
    const { told, end } = follow(rungs, happenings);
    const late = told.filter(({ at }) => at > 0.25 * end && at < 0.95 * end);
    expect(Math.max(...late.map(({ at, remainingMs }) => Math.abs(remainingMs! / (end - at) - 1)))).toBeLessThan(0.1);
  });

  it('is not shown before it is stable', () => {
    const wrong = [step('measure', 1000), step('prune', 1000)];
    const { told } = follow(wrong, [
      { stage: 'measure', ticks: 10, ms: 300 },
      { stage: 'prune', ticks: 100, ms: 3000 },
    ]);
    const [first] = told.filter(({ remainingMs }) => remainingMs !== undefined);
    expect(first!.at).toBeGreaterThanOrEqual(2000);
    // The jump from seconds to minutes is not shown on its way.
    const shown = told.filter(({ stage, remainingMs }) => stage === 'prune' && remainingMs !== undefined);
    expect(shown.length).toBeGreaterThan(50);
    for (const { at, remainingMs } of shown.filter(({ done }) => done > 8 && done < 100))
      expect(remainingMs! / (303_000 - at)).toBeGreaterThan(0.7);
  });

  it('does not take for speed what an earlier run has done', () => {
    const happenings = asExpected(2);
    const [, , , prune] = happenings;
    const resumed: Happening[] = [
      { stage: 'generate', ticks: 0, ms: 5 },
      { stage: 'measure', ticks: 0, ms: 5 },
      { ...happenings[2]!, done: 35 },
      prune!,
      ...happenings.slice(4),
    ];
    expect(worst(follow(RUN, resumed))).toBeLessThan(0.25);
  });

  it('counts a step that resumes from another one, as windows of healing do', () => {
    const steps = [step('generate', 10_000), step('generate', 30_000, 0.25), step('heal', 40_000)];
    const followed = follow(steps, [
      { stage: 'generate', ticks: 50, ms: 200 },
      { stage: 'generate', ticks: 200, ms: 200, done: 50 },
      { stage: 'heal', ticks: 100, ms: 400 },
    ]);
    expect(worst(followed)).toBeLessThan(0.1);
  });

  it('counts work that is repeated, which makes the total of a step larger', () => {
    let at = 0;
    const overall = createOverallProgress(() => at);
    overall.expect([step('heal', 20_000), step('certify', 2000)]);
    const told: Told[] = [];
    const tell = (progress: Progress) => void told.push({ at, ...overall.add(progress) });
    tell({ stage: 'heal', done: 0, total: 1 });
    for (let tick = 1; tick <= 150; tick += 1) {
      at += 400;
      tell({ stage: 'heal', done: tick, total: tick < 50 ? 100 : 150 });
    }
    tell({ stage: 'certify', done: 0, total: 1 });
    at += 6000;
    const repeated = told.filter((one) => one.done >= 60 && one.remainingMs !== undefined);
    expect(repeated.length).toBeGreaterThan(30);
    expect(worst({ told: repeated, end: at })).toBeLessThan(0.3);
  });

  it('is of the stage alone where no steps are expected', () => {
    const { told, end } = follow([], [{ stage: 'download', ticks: 100, ms: 200 }]);
    expect(told.every(({ overall }) => overall === undefined)).toBe(true);
    expect(told.find(({ done }) => done === 50)!.remainingMs).toBeCloseTo(end / 2);
  });
});

describe('how much is done', () => {
  it('never falls, and never reaches 1', () => {
    const { told } = follow(
      [step('prune', 10), step('save', 10)],
      [
        { stage: 'save', ticks: 3, ms: 5 },
        { stage: 'prune', ticks: 9, ms: 900 },
        { stage: 'save', ticks: 3, ms: 5 },
      ],
    );
    const fractions = told.map(({ overall }) => overall!);
    expect(fractions).toEqual(fractions.toSorted((a, b) => a - b));
    expect(Math.max(...fractions)).toBeLessThan(1);
  });

  it('follows the time that passes', () => {
    const { told, end } = follow(RUN, asExpected(1));
    for (const { at, overall } of told.filter((one) => one.at > 0 && one.at < 0.98 * end))
      expect(overall! / (at / end)).toBeCloseTo(1, 0);
  });

  it('counts stages that were left out as done', () => {
    const { told } = follow(RUN, [{ stage: 'certify', ticks: 3, ms: 2000 }]);
    expect(told[0]!.overall).toBeGreaterThan(0.9);
  });
});
