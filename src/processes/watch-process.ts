import type { ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { memoryLimit } from '../platform/node/memory.js';
import { processScheduling, type Scheduling } from '../platform/node/processor-time.js';
import type { Progress } from '../progress.js';

const GIGABYTE = 2 ** 30;

/** Stages in which a sound file takes seconds and little memory, and a hostile one may take all there is. */
const QUICK_STAGES: ReadonlySet<string> = new Set(['load', 'analyse', 'rebuild']);

/** Limits of a process: with `modelBytes` of model, in a quick stage and in any other. */
const LIMITS = {
  quick: (modelBytes: number) => ({
    silentMs: 55_000 * (1 + modelBytes / GIGABYTE),
    memoryBytes: 4 * modelBytes + GIGABYTE / 2,
  }),
  other: (modelBytes: number) => ({
    silentMs: 600_000 * (1 + modelBytes / GIGABYTE),
    memoryBytes: 0.95 * memoryLimit(),
  }),
};

/** Intervals at which a process and its processor time are polled. */
const [POLL_MS, COUNT_MS] = [50, 1000] as const;

/** A process whose threads ran and waited for less of the time than this is stuck. */
const LEAST_BUSY = 0.1;

/** A process under a watchdog, which ends it when it takes too much memory or sends no message for too long. */
export interface WatchedProcess {
  /** To be called with each sign of life of the process: its progress, or nothing but that. */
  heard(progress?: Progress): void;
  /** Resolves when the process has ended: how it died, and what it was doing; undefined when it exited by itself. */
  readonly death: Promise<string | undefined>;
}

/**
 * Watches a process that was just started. Memory is watched only on Linux. Silence counts by what the process got of the
 * processors, where the system tells: one that waits for them is not at fault.
 * @param pathBytes size of the models that it works on, but for those that it downloads
 * @param scheduling what the threads of a process got so far
 */
export function watchProcess(child: ChildProcess, pathBytes: number, scheduling = processScheduling): WatchedProcess {
  let modelBytes = pathBytes;
  let last: Progress = { stage: 'start', done: 0, total: 0 };
  let silentMs = 0;
  let uncountedMs = 0;
  let before = scheduling(child.pid);
  let polledAt = performance.now();
  let verdict: string | undefined;
  const end = (what: string) => {
    verdict ??= `was ended, for ${what}`;
    child.kill('SIGKILL');
  };
  const timer = setInterval(() => {
    const now = performance.now();
    // A machine that slept, or a process that was stopped, was not silent.
    uncountedMs += Math.min(now - polledAt, 4 * POLL_MS);
    polledAt = now;
    if (uncountedMs >= COUNT_MS) {
      const after = scheduling(child.pid);
      silentMs += countSilence(uncountedMs, before, after);
      [before, uncountedMs] = [after, 0];
    }
    const limits = LIMITS[QUICK_STAGES.has(last.stage) ? 'quick' : 'other'](modelBytes);
    const bytes = residentBytes(child.pid);
    if (bytes > limits.memoryBytes) end(`it held ${inMegabytes(bytes)}, more than ${inMegabytes(limits.memoryBytes)}`);
    else if (silentMs > limits.silentMs) end(`it did not respond for ${Math.round(limits.silentMs / 1000)} s`);
  }, POLL_MS);
  timer.unref();
  const death = new Promise<string | undefined>((resolve) => {
    const settle = (how: string | undefined) => {
      clearInterval(timer);
      resolve(how && `${how} at the stage "${last.stage}"${last.detail ? ` (${last.detail})` : ''}`);
    };
    child.once('exit', (_, signal) => settle(signal === null ? undefined : (verdict ?? `died by ${signal}`)));
    child.once('error', (error) => settle(`could not be started: ${error.message}`));
  });
  return {
    heard(progress = last) {
      last = progress;
      if (progress.stage === 'download') modelBytes = Math.max(modelBytes, pathBytes + progress.total);
      silentMs = 0;
      uncountedMs = 0;
    },
    death,
  };
}

/** How much of a silent time a process is answerable for. */
function countSilence(ms: number, before: Scheduling | undefined, after: Scheduling | undefined): number {
  if (before === undefined || after === undefined) return ms;
  // Threads that have ended take their times with them.
  const ranMs = Math.max(0, after.ranMs - before.ranMs);
  const waitedMs = Math.max(0, after.waitedMs - before.waitedMs);
  return ranMs + waitedMs < LEAST_BUSY * ms ? ms : Math.min(ms, ranMs);
}

/** Bytes of the files that arguments name, folders with the one below; what is not a path counts nothing. */
export function bytesOfPaths(paths: readonly string[], depth = 2): number {
  return paths.reduce((sum, path) => {
    const stats = statSync(path, { throwIfNoEntry: false });
    if (!stats?.isDirectory()) return sum + (stats?.isFile() ? stats.size : 0);
    return depth === 0
      ? sum
      : sum +
          bytesOfPaths(
            readdirSync(path).map((name) => join(path, name)),
            depth - 1,
          );
  }, 0);
}

/** Without the files that it maps, which cost no memory. */
function residentBytes(pid: number | undefined): number {
  try {
    return 1024 * Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/^RssAnon:\s+(\d+)/m)?.[1] ?? 0);
  } catch {
    return 0;
  }
}

const inMegabytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MB`;
