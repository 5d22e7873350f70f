/** Runs the bare blocks, or prunes, in a process of its own, so that time and peak memory are its own. Prints one JSON line. */
import { rm } from 'node:fs/promises';
import { createNodeEngine } from '../../src/node/node-engine.js';
import { prune } from '../../src/node.js';
import type { BenchRun, BenchTask } from './bench-task.js';
import { runBare } from './run-bare.js';

const task = JSON.parse(process.argv[2] ?? '{}') as BenchTask;
const { model, method, calibration, workFolder } = task;
const cpuStart = process.cpuUsage();
const start = performance.now();
const stages = method === 'bare' ? await runBare(task, await createNodeEngine()) : (await pruneOnce()).timings;
const { user, system } = process.cpuUsage(cpuStart);
const run: BenchRun = {
  stages,
  wallMs: performance.now() - start,
  cpuMs: (user + system) / 1000,
  peakBytes: process.resourceUsage().maxRSS * 1024,
};
process.stdout.write(`${JSON.stringify(run)}\n`);

async function pruneOnce() {
  try {
    return await prune({ ...task.options, model, method, calibration, out: workFolder, force: true });
  } finally {
    await rm(workFolder, { recursive: true, force: true });
  }
}
