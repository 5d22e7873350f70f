/** Runs the bare blocks or the whole model, or prunes or quantises, in this process, whose time and peak memory are measured. Prints one JSON line. */
import { rm } from 'node:fs/promises';
import { createNodeEngine } from '../../src/node/node-engine.js';
import { pruneLadder, quantize } from '../../src/node.js';
import { DTYPES, type DtypeName } from '../../src/quantisation/dtypes.js';
import type { BenchRun, BenchTask } from './bench-task.js';
import { measureCost } from './measure-cost.js';
import { type BareExtent, runBare } from './run-bare.js';

const task = JSON.parse(process.argv[2] ?? '{}') as BenchTask;
const { model, method, calibration, sparsity, workFolder } = task;
const EXTENTS: Readonly<Partial<Record<string, BareExtent>>> = { bare: 'blocks', model: 'model' };
const extent = EXTENTS[method];
const run = extent === undefined ? await pruneOnce() : await runBare(task, await createNodeEngine(), extent);
process.stdout.write(`${JSON.stringify({ ...run, peakBytes: process.resourceUsage().maxRSS * 1024 })}\n`);

async function pruneOnce(): Promise<Omit<BenchRun, 'peakBytes'>> {
  try {
    const shared = { model, out: workFolder, force: true };
    const { result, ...cost } = await measureCost(async () =>
      Object.hasOwn(DTYPES, method)
        ? quantize({ ...shared, dtype: method as DtypeName, calibration })
        : (await pruneLadder({ ...shared, ...task.options, sparsity, method, calibration }))[0]!,
    );
    return { ...cost, stages: result.timings };
  } finally {
    await rm(workFolder, { recursive: true, force: true });
  }
}
