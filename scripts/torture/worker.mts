/** A process that tries mutants one by one, on messages; its parent watches its time and memory. */
import { type Trial, tryMutant } from './try-mutant.js';
import { watchFiles } from './watch-files.js';

const clashesOf = watchFiles();

/** Garbage collection takes longer than most trials; the memory limit is hundreds of megabytes. */
const TRIALS_A_COLLECTION = 10;
let tried = 0;

process.on('message', ({ trial, folder }: { readonly trial: Trial; readonly folder: string }) => {
  void tryMutant(trial, folder).then((outcome) => {
    if (++tried % TRIALS_A_COLLECTION === 0) globalThis.gc?.();
    const [stray] = clashesOf();
    process.send?.(stray === undefined ? { outcome } : { stray: `opened ${stray}` });
  });
});
process.on('disconnect', () => process.exit());
for (const event of ['unhandledRejection', 'uncaughtException'] as const) {
  process.on(event, (error: unknown) => {
    process.send?.({ stray: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  });
}
