import { freeBuffer } from '../free-bytes.js';
import type { Tensor, Tensors } from './engine.js';

/** Number of references to the memory of a tensor that an engine returned. */
const referenceCounts = new WeakMap<ArrayBufferLike, number>();

/**
 * Starts to count references to a tensor's memory, at 1, so that the last release frees it. Results of an engine are large and
 * many: every 30 MB of them would cause a collection of the entire heap. Tensors that are not tracked, or not released, are
 * collected as usual.
 */
export function trackTensor({ data }: Tensor): void {
  const { buffer, byteLength } = data;
  if (buffer.byteLength === byteLength) referenceCounts.set(buffer, 1);
}

/** Adds a reference to a tracked tensor, which must then be released once more. */
export function retainTensor({ data }: Tensor): void {
  const count = referenceCounts.get(data.buffer);
  if (count !== undefined) referenceCounts.set(data.buffer, count + 1);
}

/** Removes a reference to a tracked tensor. The last one frees its memory, so that its data has no elements. */
export function releaseTensor({ data }: Tensor): void {
  const { buffer } = data;
  const count = referenceCounts.get(buffer);
  if (count === undefined) return;
  referenceCounts.set(buffer, count - 1);
  if (count > 1) return;
  referenceCounts.delete(buffer);
  freeBuffer(buffer as ArrayBuffer);
}

/** Releases all results of a run. */
export function releaseTensors(tensors: Tensors): void {
  for (const tensor of Object.values(tensors)) releaseTensor(tensor);
}
