/**
 * Tries every dtype on one model folder in this process, each in a separate folder and then all in one, and prints the results
 * as JSON on the last line.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startChromium } from './open-in-chromium.js';
import { type DtypeRun, type DtypeTry, MIXED, tryDtypes } from './try-dtype.js';

const { folder, dtypes, genai, pages } = JSON.parse(process.argv[2] ?? '{}');
const scratch = mkdtempSync(join(tmpdir(), 'fang-prune-dtypes-'));
const chromium = pages.length > 0 ? await startChromium(scratch) : undefined;
const hasWebgpu = pages.includes('webgpu');
const runs: Record<string, DtypeRun> = {};
const attempt = (wanted: DtypeTry['dtypes'], mixedBytes?: number) =>
  tryDtypes({ folder, dtypes: wanted, scratch, chromium, hasWebgpu, genai, mixedBytes });
/** Dtypes that `shrink` mixes in one file. */
const MIXTURE = ['q8', 'q4', 'q2'] as const;
try {
  for (const dtype of dtypes) {
    const run = (await attempt([dtype]))[dtype]!;
    runs[dtype] = run;
    // The next dtype is refused for the same reason.
    if (run.outcome === 'refused' && run.isModel) break;
  }
  const [q8, q4, q2] = MIXTURE.map((dtype) => {
    const run = runs[dtype];
    return run !== undefined && 'bytes' in run ? run.bytes : undefined;
  });
  if (q8 !== undefined && q4 !== undefined && q2 !== undefined)
    runs[MIXED] = (await attempt(MIXTURE, Math.floor((q4 + q2) / 2)))[MIXED]!;
  const written = dtypes.filter((dtype: string) => runs[dtype] !== undefined && 'bytes' in runs[dtype]);
  // genai has a folder for each.
  const isOneFolder = written.some((dtype: string) => 'node' in (runs[dtype] as { openings: object }).openings);
  if (written.length > 1 && isOneFolder)
    for (const [dtype, run] of Object.entries(await attempt(written))) runs[`${dtype} by name`] = run;
} finally {
  await chromium?.close();
  rmSync(scratch, { recursive: true, force: true });
}
process.stdout.write(`\n${JSON.stringify(runs)}\n`);
