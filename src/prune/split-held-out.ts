import { countHeldOut } from '../options/healing.js';
import type { HealingSource } from './job.js';

/** Splits windows into those to heal on and held-out ones, which are the last. */
export function splitHeldOut(windows: readonly Int32Array[]): HealingSource {
  const last = Math.min(countHeldOut({ windowCount: windows.length }), windows.length - 1);
  const count = Math.max(0, windows.length - last);
  return { windows: windows.slice(0, count), heldOut: windows.slice(count) };
}
