/** Runs one experiment in a process of its own, so that its peak memory is its own. Prints one JSON line. */
import { rm } from 'node:fs/promises';
import { perplexity, prune } from '../../src/node.js';
import type { Measurement, Task } from './measurement.js';

const task = JSON.parse(process.argv[2] ?? '{}') as Task;
const result: { -readonly [K in keyof Measurement]: Measurement[K] } = { perplexities: {} };
let folder = task.model;
try {
  if (task.options !== undefined) {
    folder = task.folder;
    const report = await prune({ ...task.options, model: task.model, out: folder, force: true });
    const { sparsity, parameters, bytes, timings, peakMemoryBytes, remarks } = report;
    const widths = report.modules.map(({ unitsAfter }) => unitsAfter);
    result.pruning = {
      sparsity,
      parameters,
      bytes,
      timings,
      widths,
      remarks,
      ...(peakMemoryBytes && { peakMemoryBytes }),
    };
  }
  for (const [name, file] of Object.entries(task.texts)) {
    const {
      perplexity: value,
      tokenCount,
      protocol,
    } = await perplexity({ model: folder, file, windowLength: 512, windowCount: 16 });
    result.perplexities = {
      ...result.perplexities,
      [name]: { value, tokenCount, textSha256: protocol.textSha256 ?? '' },
    };
  }
} finally {
  if (folder !== task.model && !task.keep) await rm(folder, { recursive: true, force: true });
}
process.stdout.write(`${JSON.stringify(result)}\n`);
