import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Bytes of array buffers that are still referenced. */
export function heldBytes(): number {
  // V8 sweeps array buffers in another thread: the second collection waits for the first one's sweep.
  collectGarbage();
  collectGarbage();
  return process.memoryUsage().arrayBuffers;
}
