import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { describe, prune } from '../../src/node.js';

const MODEL = 'test/fixtures/exporters/llama-dynamo215op23-fp32';
const TEXT = 'Once upon a time a girl had 3 cats, 12 dogs and half of a cake. '.repeat(40);

/** Resources of a process. */
interface Held {
  readonly residentBytes: number;
  readonly heapBytes: number;
  /** Open file descriptors; 0 if unknown. */
  readonly files: number;
  /** Timers, sockets, workers and the like. */
  readonly handles: number;
  /** Listeners of the process. */
  readonly listeners: number;
}

/** Runs after which caches are filled. */
const WARM_RUNS = 5;
/** Runs that are averaged, at the start and at the end, since memory fluctuates. */
const COMPARED_RUNS = 5;
/** Growth for each run that is noise: V8 and the allocator keep pages. */
const MAX_RESIDENT_BYTES = 1.5 * 2 ** 20;
const MAX_HEAP_BYTES = 0.2 * 2 ** 20;

/**
 * Repeatedly prunes, measures and describes a model in this process, and prints the process's resources after each run.
 * @returns the resources that grew
 */
export async function repeatRuns(
  count: number,
  { model = MODEL, say }: { readonly model?: string | undefined; readonly say: (line: string) => void },
): Promise<readonly string[]> {
  const root = mkdtempSync(join(tmpdir(), 'fang-prune-repeat-'));
  const all: Held[] = [];
  try {
    for (let run = 1; run <= count; run += 1) {
      await runOnce(model, join(root, 'out'));
      // Waits for delayed releases, such as files that the garbage collector closes.
      await setTimeout(20);
      globalThis.gc?.();
      const held = look();
      all.push(held);
      const megabytes = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
      say(
        `${run}: ${megabytes(held.residentBytes)} MB resident, ${megabytes(held.heapBytes)} MB heap, ${held.files} files, ${held.handles} handles, ${held.listeners} listeners`,
      );
    }
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  return findLeaks(all);
}

async function runOnce(model: string, out: string): Promise<void> {
  rmSync(out, { recursive: true, force: true });
  const calibration = { windowCount: 4, windowLength: 16, source: { text: TEXT } };
  await prune({ model, out, sparsity: 0.3, method: 'o-fang', calibration });
  await describe({ model: out });
  // A failed call must not leak either.
  await prune({ model, out, sparsity: 0.3, method: 'flap', calibration }).catch(() => undefined);
  const signal = AbortSignal.timeout(30);
  await prune({ model, out: `${out}-2`, sparsity: 0.3, method: 'obc', calibration, signal, resume: false }).catch(
    () => undefined,
  );
  rmSync(`${out}-2`, { recursive: true, force: true });
}

function look(): Held {
  const { rss, heapUsed } = process.memoryUsage();
  return {
    residentBytes: rss,
    heapBytes: heapUsed,
    files: countFiles(),
    handles: process.getActiveResourcesInfo().length,
    listeners: process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), 0),
  };
}

function countFiles(): number {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return 0;
  }
}

/** Resources that grow with the runs. */
export function findLeaks(all: readonly Held[]): readonly string[] {
  const warm = all.slice(WARM_RUNS);
  if (warm.length < 2 * COMPARED_RUNS) return [];
  const least = (part: readonly Held[], name: keyof Held) => Math.min(...part.map((held) => held[name]));
  const grew = (name: keyof Held) =>
    (least(warm.slice(-COMPARED_RUNS), name) - least(warm.slice(0, COMPARED_RUNS), name)) /
    (warm.length - COMPARED_RUNS);
  const most: Readonly<Record<keyof Held, number>> = {
    residentBytes: MAX_RESIDENT_BYTES,
    heapBytes: MAX_HEAP_BYTES,
    // Single pending releases are no leak.
    files: 0.5,
    handles: 0.5,
    listeners: 0.5,
  };
  return (Object.keys(most) as (keyof Held)[])
    .filter((name) => grew(name) > most[name])
    .map((name) => `${name}: ${grew(name).toFixed(2)} more after each run`);
}
