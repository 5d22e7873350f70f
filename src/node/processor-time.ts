import { readdirSync, readFileSync } from 'node:fs';

/** Available from Node.js 23.9 on. */
type ThreadUsage = () => { readonly user: number; readonly system: number };

/**
 * Processor time that this thread has used, in ms. Fallback (Node.js before 23.9 except on Linux): that of the entire
 * process.
 */
export function threadProcessorMs(): number {
  const { threadCpuUsage } = process as { readonly threadCpuUsage?: ThreadUsage };
  const ownMs = threadCpuUsage === undefined ? readScheduling('/proc/thread-self')?.ranMs : undefined;
  if (ownMs !== undefined) return ownMs;
  const { user, system } = threadCpuUsage?.call(process) ?? process.cpuUsage();
  return (user + system) / 1000;
}

/** Running and waiting time of threads, in ms. */
export interface Scheduling {
  readonly ranMs: number;
  readonly waitedMs: number;
}

/** Processor time of the threads of a process; undefined where the system does not report it. */
export function processScheduling(pid: number | undefined): Scheduling | undefined {
  try {
    const folder = `/proc/${pid}/task`;
    const threads = readdirSync(folder).flatMap((name) => readScheduling(`${folder}/${name}`) ?? []);
    if (threads.length === 0) return undefined;
    return threads.reduce((sum, one) => ({ ranMs: sum.ranMs + one.ranMs, waitedMs: sum.waitedMs + one.waitedMs }));
  } catch {
    return undefined;
  }
}

/** Linux reports both in nanoseconds. */
function readScheduling(thread: string): Scheduling | undefined {
  try {
    const [ran, waited] = readFileSync(`${thread}/schedstat`, 'utf8').split(' ').map(Number);
    return ran! >= 0 && waited! >= 0 ? { ranMs: ran! / 1e6, waitedMs: waited! / 1e6 } : undefined;
  } catch {
    return undefined;
  }
}
