/** Tries every dtype on one model folder, in a process of its own, and prints what became of them as JSON on the last line. */
import { type DtypeRun, tryDtype } from './try-dtype.js';

const { folder, dtypes, genai } = JSON.parse(process.argv[2] ?? '{}');
const runs: Record<string, DtypeRun> = {};
for (const dtype of dtypes) {
  runs[dtype] = await tryDtype({ folder, dtype, genai });
  // The next dtype is refused for the same reason.
  if (runs[dtype].outcome === 'refused' && runs[dtype].isModel) break;
}
process.stdout.write(`\n${JSON.stringify(runs)}\n`);
