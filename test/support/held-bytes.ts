import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as (options?: { readonly type: 'minor' }) => void;

/** Bytes of array buffers that are still referenced. */
export function heldBytes(): number {
  collectGarbage();
  // V8 sweeps array buffers in another thread: the next collection, also a small one, waits for that.
  collectGarbage({ type: 'minor' });
  return process.memoryUsage().arrayBuffers;
}
