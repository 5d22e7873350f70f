import { readFileSync } from 'node:fs';

/**
 * Largest resident memory that this process had, in bytes. Linux's own figure counts from the start of the program; the
 * portable one (`resourceUsage`) counts there what the parent had when it started this process.
 */
export function peakMemoryBytes(): number {
  const kibibytes = /^VmHWM:\s*(\d+) kB$/m.exec(readStatus())?.[1];
  return 1024 * (kibibytes === undefined ? process.resourceUsage().maxRSS : Number(kibibytes));
}

/** What Linux says about this process; nothing elsewhere. */
function readStatus(): string {
  try {
    return readFileSync('/proc/self/status', 'utf8');
  } catch {
    return '';
  }
}
