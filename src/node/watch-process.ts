import type { ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Progress } from '../progress.js';
import { memoryLimit } from './memory.js';
import { processScheduling, type Scheduling } from './processor-time.js';

const GIGABYTE = 2 ** 30;

/** Stages that need only seconds and little memory for a valid file; a malicious one may need more. */
const QUICK_STAGES: ReadonlySet<string> = new Set(['load', 'analyse', 'rebuild']);

/** Limits of a process by model bytes, for quick and other stages. */
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

/** A process whose threads ran and waited for less than this fraction of the time is stuck. */
const MIN_BUSY = 0.1;

/** A process with a watchdog, which kills it for too much memory or missing heartbeats. */
export interface WatchedProcess {
  /** To be called on each message of the process: progress or a heartbeat. */
  noteHeartbeat(progress?: Progress): void;
  /** Resolves when the process has ended: how it died and at which stage; undefined for a normal exit. */
  readonly death: Promise<string | undefined>;
}

/**
 * Watches a process that was just started. Memory is watched only on Linux. Silence counts by processor time, if known:
 * waiting for a processor is not counted.
 * @param pathBytes size of its models, without downloads
 * @param scheduling processor time of the process's threads
 */
export function watchProcess(child: ChildProcess, pathBytes: number, scheduling = processScheduling): WatchedProcess {
  let modelBytes = pathBytes;
  let last: Progress = { stage: 'start', done: 0, total: 0 };
  let silentMs = 0;
  let uncountedMs = 0;
  let before = scheduling(child.pid);
  let polledAt = performance.now();
  let verdict: string | undefined;
  const end = (reason: string) => {
    verdict ??= `was ended, since ${reason}`;
    child.kill('SIGKILL');
  };
  const timer = setInterval(() => {
    const now = performance.now();
    // Suspended time of the machine or process is not counted.
    uncountedMs += Math.min(now - polledAt, 4 * POLL_MS);
    polledAt = now;
    if (uncountedMs >= COUNT_MS) {
      const after = scheduling(child.pid);
      silentMs += countSilence(uncountedMs, before, after);
      [before, uncountedMs] = [after, 0];
    }
    const limits = LIMITS[QUICK_STAGES.has(last.stage) ? 'quick' : 'other'](modelBytes);
    const bytes = residentBytes(child.pid);
    if (bytes > limits.memoryBytes) end(`it used ${inMegabytes(bytes)}, more than ${inMegabytes(limits.memoryBytes)}`);
    else if (silentMs > limits.silentMs) end(`it did not respond for ${Math.round(limits.silentMs / 1000)} s`);
  }, POLL_MS);
  timer.unref();
  const death = new Promise<string | undefined>((resolve) => {
    const settle = (cause: string | undefined) => {
      clearInterval(timer);
      resolve(cause && `${cause} at the stage "${last.stage}"${last.detail ? ` (${last.detail})` : ''}`);
    };
    child.once('exit', (_, signal) => settle(signal === null ? undefined : (verdict ?? `died by ${signal}`)));
    child.once('error', (error) => settle(`could not be started: ${error.message}`));
  });
  return {
    noteHeartbeat(progress = last) {
      last = progress;
      if (progress.stage === 'download') modelBytes = Math.max(modelBytes, pathBytes + progress.total);
      silentMs = 0;
      uncountedMs = 0;
    },
    death,
  };
}

/** Part of a silent period that counts. */
function countSilence(ms: number, before: Scheduling | undefined, after: Scheduling | undefined): number {
  if (before === undefined || after === undefined) return ms;
  // Times of ended threads are lost.
  const ranMs = Math.max(0, after.ranMs - before.ranMs);
  const waitedMs = Math.max(0, after.waitedMs - before.waitedMs);
  return ranMs + waitedMs < MIN_BUSY * ms ? ms : Math.min(ms, ranMs);
}

/** Bytes of the files of arguments, folders to a depth of two; other texts count 0. */
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

/** Resident memory without mapped files. */
function residentBytes(pid: number | undefined): number {
  try {
    return 1024 * Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/^RssAnon:\s+(\d+)/m)?.[1] ?? 0);
  } catch {
    return 0;
  }
}

const inMegabytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MB`;
