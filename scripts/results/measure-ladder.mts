/** Prunes the results of a ladder and measures missing figures; prints each as a JSON line. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { evaluateTasks, openModelFolder, type PruneReport, perplexity, pruneLadder } from '../../src/node.js';
import { nameRungs, rungFolder } from '../../src/pipeline/ladder-rungs.js';
import { REPORT_NAME } from '../../src/storage/write-report.js';
import type { Measurement, Rung, Task, TaskFigures, TextFigures } from './measurement.js';

const task = JSON.parse(process.argv[2] ?? '{}') as Task;

await pruneWhatIsMissing();
for (const rung of task.rungs) {
  const folder = folderOf(rung);
  let found: Measurement = {
    perplexities: {},
    ...rung.known,
    modelBytes: await bytesOf(folder),
    ...(task.options && { pruning: pruningOf(folder) }),
  };
  const tell = (added: Partial<Measurement>) => {
    found = { ...found, ...added };
    process.stdout.write(`${JSON.stringify({ id: rung.id, measurement: found })}\n`);
  };
  for (const [name, file] of Object.entries(task.texts)) {
    if (found.perplexities[name] !== undefined) continue;
    tell({ perplexities: { ...found.perplexities, [name]: await measureText(folder, file) } });
  }
  for (const [name, file] of Object.entries(task.tasks)) {
    if (found.tasks?.[name]?.limit === task.taskLimit) continue;
    tell({ tasks: { ...found.tasks, [name]: await measureTask(folder, file) } });
  }
  if (task.options !== undefined && !task.keep) await rm(folder, { recursive: true, force: true });
}
if (!task.keep) await rm(task.out, { recursive: true, force: true });

function folderOf({ sparsity }: Rung): string {
  return sparsity === undefined ? task.model : rungFolder(task.out, nameRungs([sparsity])[0]!);
}

function reportOf(folder: string): string {
  return join(folder, `${REPORT_NAME}.json`);
}

async function pruneWhatIsMissing(): Promise<void> {
  const { options, model, out, rungs } = task;
  const sparsity = rungs.filter((rung) => !existsSync(reportOf(folderOf(rung)))).map((rung) => rung.sparsity!);
  if (options === undefined || sparsity.length === 0) return;
  await pruneLadder({ ...options, model, out, sparsity, force: true });
}

function pruningOf(folder: string): NonNullable<Measurement['pruning']> {
  const report = JSON.parse(readFileSync(reportOf(folder), 'utf8')) as PruneReport;
  const { sparsity, parameters, bytes, timings, peakMemoryBytes, remarks, modules } = report;
  const widths = modules.map(({ unitsAfter }) => unitsAfter);
  return { sparsity, parameters, bytes, timings, widths, remarks, ...(peakMemoryBytes && { peakMemoryBytes }) };
}

/** Of the model file that is opened, and its weights. */
async function bytesOf(folder: string): Promise<number> {
  const opened = await openModelFolder(folder);
  const { modelFile, root, close } = opened;
  await close();
  const place = join(root, dirname(modelFile));
  const own = readdirSync(place).filter((name) => name.startsWith(basename(modelFile)));
  return own.reduce((sum, name) => sum + statSync(join(place, name)).size, 0);
}

async function measureText(model: string, file: string): Promise<TextFigures> {
  const before = process.cpuUsage();
  const {
    perplexity: value,
    tokenCount,
    protocol,
  } = await perplexity({
    model,
    text: file,
    windowLength: 512,
    windowCount: task.textWindows,
    isolate: false,
  });
  const { user, system } = process.cpuUsage(before);
  return { value, tokenCount, textSha256: protocol.textSha256 ?? '', processorMs: (user + system) / 1000 };
}

async function measureTask(model: string, file: string): Promise<TaskFigures> {
  const limit = task.taskLimit;
  const result = await evaluateTasks({ model, file, limit });
  if (result.kind !== 'multiple-choice') throw new Error(`${file} is no multiple-choice task`);
  const { accNorm, goldNll, itemCount } = result;
  return { accNorm, goldNll, itemCount, limit };
}
