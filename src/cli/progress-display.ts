import { Presets, SingleBar } from 'cli-progress';
import type { Progress, ProgressListener } from '../progress.js';
import { formatDuration } from '../report/format-quantity.js';
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
  return terminal.errStream ? barDisplay(terminal, terminal.errStream) : lineDisplay(terminal);
}

/** Shows nothing (`--quiet`). */
export const silentDisplay: ProgressDisplay = { listener: () => {}, close: () => {} };

function barDisplay({ colors }: Terminal, stream: NodeJS.WriteStream): ProgressDisplay {
  let bar: SingleBar | undefined;
  let stage = '';
  const close = () => {
    bar?.stop();
    bar = undefined;
  };
  return {
    listener(progress) {
      if (!bar || progress.stage !== stage) {
        close();
        stage = progress.stage;
        bar = new SingleBar(
          {
            format: `${colors.cyan('{stage}')} {bar} {value}/{total} ${colors.dim('{detail}')} {eta_formatted} left`,
            stream,
            hideCursor: true,
            clearOnComplete: true,
            barsize: 24,
            etaBuffer: 16,
          },
          Presets.shades_classic,
        );
        bar.start(progress.total, progress.done, payload(progress));
      }
      bar.setTotal(progress.total);
      bar.update(progress.done, payload(progress));
    },
    close,
  };
}

function payload({ stage, detail = '' }: Progress) {
  return { stage: stage.padEnd(10), detail };
}

function lineDisplay({ err, now }: Terminal): ProgressDisplay {
  let start = { stage: '', total: 0, done: 0, time: 0 };
  let lastLineAt = 0;
  return {
    listener(progress) {
      const { stage, total, done } = progress;
      const time = now();
      const isNewStage = stage !== start.stage;
      // What was done before (windows of an earlier run, say) tells nothing about the speed of this one.
      if (isNewStage || total !== start.total) start = { stage, total, done, time };
      if (!isNewStage && time - lastLineAt < LINE_INTERVAL_MS) return;
      lastLineAt = time;
      err(`${describeProgress(progress, (time - start.time) / (done - start.done))}\n`);
    },
    close: () => {},
  };
}

function describeProgress({ stage, done, total, detail }: Progress, msPerUnit: number): string {
  const remainingMs = Number.isFinite(msPerUnit) ? msPerUnit * (total - done) : 0;
  const remaining = remainingMs > 0 ? `, about ${formatDuration(remainingMs)} left` : '';
  return `${stage}: ${done} of ${total}${detail ? ` (${detail})` : ''}${remaining}`;
}
