import { SingleBar } from 'cli-progress';
import type { Progress, ProgressListener } from '../progress.js';
import { formatDuration } from '../report/format-quantity.js';
import { type Clock, createClock } from './remaining-time.js';
import type { Terminal } from './terminal.js';

/** Shows the progress of one job; `close` leaves the terminal clean, also after an error. */
export interface ProgressDisplay {
  readonly listener: ProgressListener;
  close(): void;
}

/** A log file needs to see that the job lives, not every step of it. */
const LINE_INTERVAL_MS = 5_000;

/** A bar with the remaining time on a terminal, a line now and then elsewhere. */
export function createProgressDisplay(terminal: Terminal): ProgressDisplay {
  const clock = createClock(terminal.now);
  return terminal.errStream ? barDisplay(terminal, clock, terminal.errStream) : lineDisplay(terminal, clock);
}

/** Shows nothing (`--quiet`). */
export const silentDisplay: ProgressDisplay = { listener: () => {}, close: () => {} };

const BAR_WIDTH = 20;

/** One line for the whole job. */
function barDisplay({ colors }: Terminal, clock: Clock, stream: NodeJS.WriteStream): ProgressDisplay {
  let bar: SingleBar | undefined;
  let progress: Progress = { stage: '', done: 0, total: 1 };
  const format = (): string => {
    const filled = Math.floor(fractionOf(progress) * BAR_WIDTH);
    const { columns = 80 } = stream;
    const drawn = '█'.repeat(filled) + '░'.repeat(BAR_WIDTH - filled);
    // What is wider than the terminal would be left over when the line is drawn anew.
    const room = Math.max(0, columns - drawn.length - 2);
    const told = describeProgress(progress, clock.remaining()).slice(0, room);
    return `${colors.cyan(drawn)} ${told}`;
  };
  return {
    listener(step) {
      progress = step;
      clock.tick(step);
      if (bar === undefined) {
        bar = new SingleBar({ format, stream, hideCursor: true, clearOnComplete: true });
        bar.start(1, 0);
      }
      bar.update(0);
    },
    close() {
      bar?.stop();
      bar = undefined;
    },
  };
}

function lineDisplay({ err, now }: Terminal, clock: Clock): ProgressDisplay {
  let stage = '';
  let lastLineAt = 0;
  return {
    listener(progress) {
      clock.tick(progress);
      const isNewStage = progress.stage !== stage;
      stage = progress.stage;
      const time = now();
      if (!isNewStage && time - lastLineAt < LINE_INTERVAL_MS) return;
      lastLineAt = time;
      err(`${describeProgress(progress, clock.remaining())}\n`);
    },
    close: () => {},
  };
}

/** Of the whole job, or else of the stage. */
function fractionOf({ whole, done, total }: Progress): number {
  return Math.min(0.99, whole ?? (total > 0 ? done / total : 0));
}

/** ` 34 %  prune, block 3 ffn, about 2 min 5 s left`. */
function describeProgress(progress: Progress, remainingMs: number | undefined): string {
  const { stage, detail } = progress;
  const percent = `${Math.floor(100 * fractionOf(progress))} %`.padStart(4);
  const remaining = remainingMs === undefined ? '' : `, about ${formatDuration(remainingMs)} left`;
  return `${percent}  ${stage}${detail ? `, ${detail}` : ''}${remaining}`;
}
