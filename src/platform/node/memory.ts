import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';

/** Memory that this process may have, in bytes: the machine's, or less in a container. */
export const memoryLimit = (): number =>
  Math.min(totalmem(), process.constrainedMemory?.() || Number.POSITIVE_INFINITY);

/**
 * Largest resident memory that this process had, in bytes. Linux's own figure counts from the start of the program; the
 * portable one (`resourceUsage`) counts there what the parent had when it started this process.
 */
export function peakMemoryBytes(): number {
  const kibibytes = /^VmHWM:\s*(\d+) kB$/m.exec(readStatus())?.[1];
  return 1024 * (kibibytes === undefined ? process.resourceUsage().maxRSS : Number(kibibytes));
}

/** Status of this process on Linux; nothing elsewhere. */
function readStatus(): string {
  try {
    return readFileSync('/proc/self/status', 'utf8');
  } catch {
    return '';
  }
}
