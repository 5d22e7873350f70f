import { OptionError } from '../../errors.js';
import type { WebPlace } from './web-place.js';

/** Outputs that are made on this thread: in maps, which other threads have copies of, and where the browser has no locks. */
const held = new WeakMap<object, Set<string>>();
const ELSEWHERE = {};

/**
 * Keeps other calls, pages and workers from making the same output. The browser's lock goes with its page.
 * @param output its path
 * @param place what it lies in; absent for one that all pages share
 * @returns what lets them in.
 * @throws OptionError when another one makes it.
 */
export function lockOutput(output: string, place?: WebPlace): Promise<() => void> {
  const { locks } = globalThis.navigator ?? {};
  return new Promise((resolve, reject) => {
    const refuse = () =>
      reject(
        new OptionError(`Another call, page or worker is making ${output}. Wait for it, or choose another output.`),
      );
    if (locks === undefined || place instanceof Map) {
      const release = lockHere(place instanceof Map ? place : ELSEWHERE, output);
      return release === undefined ? refuse() : resolve(release);
    }
    const taken = locks.request(`fang-prune run ${output}`, { ifAvailable: true }, (lock) => {
      if (lock !== null) return new Promise<void>((release) => resolve(release));
      refuse();
      return undefined;
    });
    taken.catch(reject);
  });
}

/** Keeps other calls of this thread away; undefined where one is at work. */
export function lockHere(place: object, output: string): (() => void) | undefined {
  const outputs = held.get(place) ?? new Set();
  if (outputs.has(output)) return undefined;
  held.set(place, outputs.add(output));
  return () => void outputs.delete(output);
}
