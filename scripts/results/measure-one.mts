/** Measures what is not known yet of one experiment, in a process of its own, so that its peak memory is its own. Prints one JSON line. */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { evaluateTasks, perplexity, prune } from '../../src/node.js';
import type { Measurement, Task } from './measurement.js';

const task = JSON.parse(process.argv[2] ?? '{}') as Task;
const folder = task.options === undefined ? task.model : task.folder;
try {
  const pruning = task.options && (await pruneUnlessKept());
  const perplexities = { ...task.known?.perplexities };
  for (const [name, file] of Object.entries(task.texts)) {
    if (perplexities[name] !== undefined) continue;
    const found = await perplexity({ model: folder, file, windowLength: 512, windowCount: 16 });
    const { perplexity: value, tokenCount, protocol } = found;
    perplexities[name] = { value, tokenCount, textSha256: protocol.textSha256 ?? '' };
  }
  const tasks = { ...task.known?.tasks };
  for (const [name, file] of Object.entries(task.tasks)) {
    if (tasks[name] !== undefined) continue;
    const result = await evaluateTasks({ model: folder, file, limit: task.taskLimit });
    if (result.kind !== 'multiple-choice') throw new Error(`${file} is no multiple-choice task`);
    const { accNorm, goldNll, itemCount } = result;
    tasks[name] = { accNorm, goldNll, itemCount };
  }
  const measurement: Measurement = { ...(pruning && { pruning }), perplexities, tasks };
  process.stdout.write(`${JSON.stringify(measurement)}\n`);
} finally {
  if (folder !== task.model && !task.keep) await rm(folder, { recursive: true, force: true });
}

async function pruneUnlessKept(): Promise<Measurement['pruning']> {
  if (task.known?.pruning !== undefined && existsSync(folder)) return task.known.pruning;
  const report = await prune({ ...task.options!, model: task.model, out: folder, force: true });
  const { sparsity, parameters, bytes, timings, peakMemoryBytes, remarks, modules } = report;
  const widths = modules.map(({ unitsAfter }) => unitsAfter);
  return { sparsity, parameters, bytes, timings, widths, remarks, ...(peakMemoryBytes && { peakMemoryBytes }) };
}
