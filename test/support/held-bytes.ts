import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as (options?: { readonly type: 'minor' }) => void;

/** Bytes of array buffers that are still referenced. */
export function heldBytes(): number {
  let [held, before] = [collected(), Infinity];
  // V8 frees array buffers in another thread, which may lag behind on a busy machine.
  while (held < before) [held, before] = [collected(), held];
  return held;
}

function collected(): number {
  collectGarbage();
  // The next collection, also a small one, waits for the freeing of the one before it.
  collectGarbage({ type: 'minor' });
  return process.memoryUsage().arrayBuffers;
}
