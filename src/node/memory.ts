import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';

/** Memory limit of this process in bytes: the machine's or the container's. */
export const memoryLimit = (): number =>
  Math.min(totalmem(), process.constrainedMemory?.() || Number.POSITIVE_INFINITY);

/**
 * Peak resident memory of this process in bytes. Linux's own figure starts with the program; `resourceUsage` there
 * includes the parent's memory at the fork.
 */
export function peakMemoryBytes(): number {
  const kibibytes = /^VmHWM:\s*(\d+) kB$/m.exec(readStatus())?.[1];
  return 1024 * (kibibytes === undefined ? process.resourceUsage().maxRSS : Number(kibibytes));
}

/** Contents of /proc/self/status on Linux; empty elsewhere. */
function readStatus(): string {
  try {
    return readFileSync('/proc/self/status', 'utf8');
  } catch {
    return '';
  }
}
