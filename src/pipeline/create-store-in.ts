import type { PruneJob } from '../prune/job.js';
import { createMemoryStore, createSpilledStore } from '../runtime/tensor-store.js';
import type { JobContext } from './job-context.js';

/** Hidden states beyond this go to scratch space: a laptop's browser and editor need memory too. */
const MEMORY_STATES_BYTES = 256 * 2 ** 20;
/** Limit for stores that grow with the number of blocks, so that memory hardly grows. */
const BLOCKS_STATES_BYTES = 16 * 2 ** 20;

/** Whether hidden states of one block, or of several at once, wait in memory; else they go to scratch space. */
export function fitsInMemory(bytes: number, blockCount = 1): boolean {
  return bytes <= (blockCount > 1 ? BLOCKS_STATES_BYTES : MEMORY_STATES_BYTES);
}

/** Makes stores in memory, or in scratch space where they would take too much of it. @param windowBytes Of one window's hidden states. */
export function createStoreIn({ platform, onEnd }: JobContext, windowBytes: number): PruneJob['createStore'] {
  return async (windowCount, blockCount = 1) => {
    if (fitsInMemory(windowCount * blockCount * windowBytes, blockCount)) return createMemoryStore();
    const scratch = await platform.createScratch();
    onEnd(() => scratch.dispose());
    return createSpilledStore(scratch);
  };
}
