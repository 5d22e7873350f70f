import type { Progress } from '../progress.js';

/** Estimates from what a job has done how long the rest of it takes. */
export interface Clock {
  tick(progress: Progress): void;
  /** In milliseconds; undefined until enough is done to tell. */
  remaining(): number | undefined;
}

/** Where a job was, and when. */
interface Mark {
  readonly time: number;
  readonly fraction: number;
}

/** Nothing is said before so much is done, in so much time. */
const LEAST = { fraction: 0.005, ms: 1500 };

/**
 * A clock that looks at the latest part of a job, as long as a third of it: stages differ in speed, and a run that goes on from
 * an earlier one begins with a leap.
 * @param now Milliseconds.
 */
export function createClock(now: () => number): Clock {
  let marks: Mark[] = [];
  let counted = '';
  return {
    tick({ stage, done, total, whole }) {
      const fraction = whole ?? (total > 0 ? done / total : 0);
      // Without a whole every stage is counted by itself, and what it had done at its start is no speed.
      const counting = whole === undefined ? `${stage} ${total}` : 'whole';
      if (counting !== counted) marks = [];
      counted = counting;
      marks.push({ time: now(), fraction });
      if (marks.length > MOST_MARKS) marks = marks.filter((_, at) => at % 2 === 0 || at === marks.length - 1);
    },
    remaining() {
      const [first, last] = [marks[0], marks.at(-1)];
      if (first === undefined || last === undefined) return undefined;
      const from = marks.findLast(({ time }) => last.time - time >= (last.time - first.time) / 3) ?? first;
      const [ms, done] = [last.time - from.time, last.fraction - from.fraction];
      if (ms < LEAST.ms || done < LEAST.fraction) return undefined;
      return Math.max(0, ((1 - last.fraction) / done) * ms - (now() - last.time));
    },
  };
}

const MOST_MARKS = 2000;
