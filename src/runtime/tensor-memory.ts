import { freeBuffer } from '../free-bytes.js';
import type { Tensor, Tensors } from './engine.js';

/** Number of references to the memory of a tensor that an engine returned. */
const holders = new WeakMap<ArrayBufferLike, number>();

/**
 * Counts who holds a tensor's memory, from now on only the caller, so that the last one to release it frees it. Results of an
 * engine are large and many: left to the garbage collector, every 30 MB of them would have it go through the entire heap. A
 * tensor that is not tracked, or that somebody forgets to release, is the garbage collector's as ever.
 */
export function trackTensor({ data }: Tensor): void {
  const { buffer, byteLength } = data;
  if (buffer.byteLength === byteLength) holders.set(buffer, 1);
}

/** Keeps a tracked tensor beyond its maker's use of it; to be released once more. */
export function retainTensor({ data }: Tensor): void {
  const count = holders.get(data.buffer);
  if (count !== undefined) holders.set(data.buffer, count + 1);
}

/** Gives a tensor up. The last one to do so frees the memory of a tracked one: its data has no elements then. */
export function releaseTensor({ data }: Tensor): void {
  const { buffer } = data;
  const count = holders.get(buffer);
  if (count === undefined) return;
  holders.set(buffer, count - 1);
  if (count > 1) return;
  holders.delete(buffer);
  freeBuffer(buffer as ArrayBuffer);
}

/** Gives up all results of a run. */
export function releaseTensors(tensors: Tensors): void {
  for (const tensor of Object.values(tensors)) releaseTensor(tensor);
}
