import type { Batch } from '../runtime/block-runner.js';

/** One of every `stride` batches, each time another place on: windows of a text and of the model's own may take turns. */
export function thinBatches(batches: readonly Batch[], stride: number): Batch[] {
  return batches.filter((_, at) => (at + Math.floor(at / stride)) % stride === 0);
}
