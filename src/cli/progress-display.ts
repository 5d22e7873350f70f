import { printable } from '../printable.js';
import type { Progress, ProgressListener } from '../progress.js';
import { formatDuration } from '../report/format-quantity.js';
import { cutToWidth, type StatusLine } from './status-line.js';
import type { Terminal } from './terminal.js';

/** Shows the progress of one job; `close` clears the line, also after an error. */
export interface ProgressDisplay {
  readonly listener: ProgressListener;
  close(): void;
}

/** Time between lines in a log file. */
const LINE_INTERVAL_MS = 5_000;

/** Shows a bar with the remaining time on a terminal, and otherwise prints a line from time to time. */
export function createProgressDisplay(terminal: Terminal): ProgressDisplay {
  return terminal.status ? barDisplay(terminal, terminal.status) : lineDisplay(terminal);
}

/** Shows nothing (`--quiet`). */
export const silentDisplay: ProgressDisplay = { listener: () => {}, close: () => {} };

const BAR_WIDTH = 20;
/** The remaining time counts down between two steps. */
const REDRAW_INTERVAL_MS = 200;

/** One line for the entire job. */
function barDisplay({ colors, now }: Terminal, status: StatusLine): ProgressDisplay {
  let progress: Progress | undefined;
  let updatedAt = 0;
  let timer: NodeJS.Timeout | undefined;
  const draw = () => {
    if (progress === undefined) return;
    const filled = Math.floor(fractionOf(progress) * BAR_WIDTH);
    const bar = cutToWidth('█'.repeat(filled) + '░'.repeat(BAR_WIDTH - filled), status.width);
    const text = cutToWidth(` ${describeProgress(progress, now() - updatedAt)}`, status.width - bar.length);
    status.draw(`${colors.cyan(bar)}${text}`);
  };
  return {
    listener(step) {
      progress = step;
      updatedAt = now();
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

function lineDisplay({ err, now }: Terminal): ProgressDisplay {
  let stage = '';
  let lastLineAt = 0;
  return {
    listener(progress) {
      const isNewStage = progress.stage !== stage;
      stage = progress.stage;
      const time = now();
      if (!isNewStage && time - lastLineAt < LINE_INTERVAL_MS) return;
      lastLineAt = time;
      err(`${describeProgress(progress, 0)}\n`);
    },
    close: () => {},
  };
}

/** Fraction done of the entire job, if known, or else of the stage. */
function fractionOf({ overall, done, total }: Progress): number {
  return Math.min(0.99, overall ?? (total > 0 ? done / total : 0));
}

/** ` 34 %  prune, about 2 min 5 s left, block 3 ffn`. @param passedMs time since the progress event */
function describeProgress(progress: Progress, passedMs: number): string {
  const { stage, detail, remainingMs = 0 } = progress;
  const percent = `${Math.floor(100 * fractionOf(progress))} %`.padStart(4);
  const left = remainingMs - passedMs;
  const remaining = left > 0 ? `, about ${formatDuration(left)} left` : '';
  return `${percent}  ${stage}${remaining}${detail ? `, ${onOneLine(detail)}` : ''}`;
}

/** Removes line breaks and control characters, which names of files may contain. */
const onOneLine = (text: string): string => printable(text.replace(/\s+/g, ' '));
