import { OptionError } from '../errors.js';
import type { WebPlace } from './web-place.js';

/** Outputs locked on this thread: in maps, which other threads copy, and in browsers without locks. */
const held = new WeakMap<object, Set<string>>();
const BROWSER = {};

/**
 * Locks an output against other calls, pages and workers. The browser's lock is released with its page.
 * @param output its path
 * @param place its container; absent for the shared private file system
 * @returns a function that releases the lock
 * @throws OptionError when it is locked.
 */
export function lockOutput(output: string, place?: WebPlace): Promise<() => void> {
  const { locks } = globalThis.navigator ?? {};
  return new Promise((resolve, reject) => {
    const refuse = () =>
      reject(new OptionError(`Another call, page or worker writes ${output}. Wait for it, or choose another output.`));
    if (locks === undefined || place instanceof Map) {
      const release = lockHere(place instanceof Map ? place : BROWSER, output);
      return release === undefined ? refuse() : resolve(release);
    }
    const locked = locks.request(`fang-prune run ${output}`, { ifAvailable: true }, (lock) => {
      if (lock !== null) return new Promise<void>((release) => resolve(release));
      refuse();
      return undefined;
    });
    locked.catch(reject);
  });
}

/** Locks an output on this thread; undefined if locked. */
export function lockHere(place: object, output: string): (() => void) | undefined {
  const outputs = held.get(place) ?? new Set();
  if (outputs.has(output)) return undefined;
  held.set(place, outputs.add(output));
  return () => void outputs.delete(output);
}
