import { printable } from '../printable.js';
import type { Progress, ProgressListener } from '../progress.js';
import { formatDuration } from '../report/format-quantity.js';
import { type Clock, createClock } from './remaining-time.js';
import { cutToWidth, type StatusLine } from './status-line.js';
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
  return terminal.status ? barDisplay(terminal, clock, terminal.status) : lineDisplay(terminal, clock);
}

/** Shows nothing (`--quiet`). */
export const silentDisplay: ProgressDisplay = { listener: () => {}, close: () => {} };

const BAR_WIDTH = 20;
/** The remaining time goes on between two steps. */
const REDRAW_INTERVAL_MS = 200;

/** One line for the whole job. */
function barDisplay({ colors }: Terminal, clock: Clock, status: StatusLine): ProgressDisplay {
  let progress: Progress | undefined;
  let timer: NodeJS.Timeout | undefined;
  const draw = () => {
    if (progress === undefined) return;
    const filled = Math.floor(fractionOf(progress) * BAR_WIDTH);
    const bar = cutToWidth('█'.repeat(filled) + '░'.repeat(BAR_WIDTH - filled), status.width);
    const text = cutToWidth(` ${describeProgress(progress, clock.remaining())}`, status.width - bar.length);
    status.draw(`${colors.cyan(bar)}${text}`);
  };
  return {
    listener(step) {
      progress = step;
      clock.tick(step);
      if (timer !== undefined) return;
      draw();
      timer = setInterval(draw, REDRAW_INTERVAL_MS).unref();
    },
    close() {
      clearInterval(timer);
      timer = undefined;
      status.clear();
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
  return `${percent}  ${stage}${detail ? `, ${onOneLine(detail)}` : ''}${remaining}`;
}

/** Names of files may hold anything. */
const onOneLine = (text: string): string => printable(text.replace(/\s+/g, ' '));
