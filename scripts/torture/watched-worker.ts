import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Outcome, Trial } from './try-mutant.js';

/** Limits of a trial. */
export interface Limits {
  /** CPU time, independent of other load; waiting counts a tenth. */
  readonly timeMs: number;
  readonly memoryBytes: number;
}

/** Outcome and cost of a trial. */
export interface Watched extends Omit<Outcome, 'file' | 'what'> {
  /** Outcome of a trial, or `crash`, `endless` or `too large` if its process ended. */
  readonly outcome: string;
  readonly file?: string;
  readonly what?: string;
  readonly ms: number;
  readonly peakBytes: number;
  /** Trials that the same process had before this one. */
  readonly before: number;
}

/** Interval of the checks of a process. */
const POLL_MS = 25;

/** Factor of the wall-time limit: on a busy machine a process waits for the CPU. */
const PATIENCE = 10;

/** Trials per process: memory that is not released must not count for all later trials. */
const TRIALS_A_PROCESS = 100;

/** Processes that try mutants, one at a time; a new one after each failure. */
export interface WatchedWorker {
  /** @param fresh in a process that tried nothing before. @returns undefined where a subject has no such file */
  try(trial: Trial, folder: string, fresh?: boolean): Promise<Watched | undefined>;
  stop(): Promise<void>;
}

/** Starts no process before the first trial. Memory is watched where the system has /proc. */
export function createWatchedWorker(limits: Limits): WatchedWorker {
  let child: ChildProcess | undefined;
  let before = 0;
  const stop = async () => {
    const ended = child;
    child = undefined;
    before = 0;
    if (ended === undefined || ended.exitCode !== null || ended.signalCode !== null) return;
    ended.kill('SIGKILL');
    await once(ended, 'exit');
  };
  return {
    async try(trial, folder, fresh = false) {
      if (fresh || before >= TRIALS_A_PROCESS) await stop();
      child ??= await start();
      const watched = await watch(child, { trial, folder }, limits);
      if (watched === undefined) return undefined;
      const result = { ...watched, before: before++ };
      if (MISBEHAVED.has(watched.outcome)) await stop();
      return result;
    },
    stop,
  };
}

/** Outcomes that are not allowed. */
export const MISBEHAVED: ReadonlySet<string> = new Set(['untyped', 'wrong', 'crash', 'endless', 'too large']);

async function start(): Promise<ChildProcess> {
  const child = fork(fileURLToPath(new URL('./worker.mts', import.meta.url)), {
    execArgv: ['--import', 'tsx', '--expose-gc'],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  await once(child, 'spawn');
  return child;
}

interface Message {
  readonly outcome?: Outcome;
  readonly stray?: string;
}

/** @returns undefined where the subject has no such file */
function watch(child: ChildProcess, message: object, { timeMs, memoryBytes }: Limits) {
  const start = performance.now();
  const spent = processorMs(child.pid);
  let peakBytes = 0;
  let stderr = '';
  return new Promise<Omit<Watched, 'before'> | undefined>((resolve) => {
    const finish = (found: Omit<Outcome, 'file' | 'what'> & Partial<Outcome>) => {
      clearInterval(timer);
      child.removeAllListeners();
      child.stderr?.removeAllListeners('data').resume();
      resolve({ ...found, ms: performance.now() - start, peakBytes });
    };
    const timer = setInterval(() => {
      peakBytes = Math.max(peakBytes, residentBytes(child.pid));
      if (peakBytes > memoryBytes) finish({ outcome: 'too large', said: `${Math.round(peakBytes / 2 ** 20)} MB` });
      else if (processorMs(child.pid) - spent > timeMs || performance.now() - start > PATIENCE * timeMs)
        finish({ outcome: 'endless' });
    }, POLL_MS);
    child.stderr?.on('data', (bytes) => {
      stderr = `${stderr}${bytes}`.slice(-2000);
    });
    child.on('exit', (code, signal) =>
      finish({ outcome: 'crash', said: `${signal ?? `exit code ${code}`} ${stderr}` }),
    );
    child.on('message', ({ outcome, stray }: Message) => {
      if (stray !== undefined) finish({ outcome: 'untyped', said: `stray ${stray}` });
      else if (outcome !== undefined) finish(outcome);
      else {
        clearInterval(timer);
        child.removeAllListeners();
        resolve(undefined);
      }
    });
    child.send(message);
  });
}

/** Linux's unit of CPU time. */
const TICK_MS = 10;

/** CPU time of a process; 0 if unknown. */
function processorMs(pid: number | undefined): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The program's name is in parentheses, and may contain any characters.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
  } catch {
    return 0;
  }
}

/** Memory of a process without mapped files; 0 if unknown. */
function residentBytes(pid: number | undefined): number {
  try {
    return Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/RssAnon:\s+(\d+)/)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}
