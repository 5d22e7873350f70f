import type { JobControl, ProgressListener } from '../progress.js';
import type { CommandContext, SharedOptions } from './command-context.js';
import { createProgressDisplay, silentDisplay } from './progress-display.js';

/** Runs a job with progress on stderr, then prints its result: as JSON, or laid out for people. */
export async function runJob<T>(
  { terminal, signal, onProgress: alsoHears }: CommandContext,
  options: SharedOptions,
  { job, format }: { job: (control: JobControl) => Promise<T>; format: (result: T) => string },
): Promise<void> {
  const display = options.quiet ? silentDisplay : createProgressDisplay(terminal);
  const onProgress: ProgressListener = (progress) => {
    alsoHears?.(progress);
    display.listener(progress);
  };
  const result = await job({ onProgress, signal }).finally(display.close);
  terminal.out(options.json ? `${JSON.stringify(result)}\n` : format(result));
}
