import type { JobControl } from '../progress.js';
import type { CommandContext, SharedOptions } from './command-context.js';
import { createProgressDisplay, silentDisplay } from './progress-display.js';

/** Runs a job with progress on stderr, then prints its result: as JSON, or laid out for people. */
export async function runJob<T>(
  { terminal, signal }: CommandContext,
  options: SharedOptions,
  { job, format }: { job: (control: JobControl) => Promise<T>; format: (result: T) => string },
): Promise<void> {
  const display = options.quiet ? silentDisplay : createProgressDisplay(terminal);
  const result = await job({ onProgress: display.listener, signal }).finally(display.close);
  terminal.out(options.json ? `${JSON.stringify(result)}\n` : format(result));
}
