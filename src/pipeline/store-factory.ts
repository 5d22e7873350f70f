import type { PruneJob } from '../prune/job.js';
import { createMemoryStore, createSpilledStore } from '../runtime/tensor-store.js';
import type { JobContext } from './job-context.js';

/** Larger hidden states go to scratch space, to leave memory for other programs. */
const MEMORY_STATES_BYTES = 256 * 2 ** 20;
/** Limit for stores that grow with the number of blocks, so that memory hardly grows. */
const BLOCKS_STATES_BYTES = 16 * 2 ** 20;

/** Whether hidden states of one or several blocks are kept in memory instead of scratch space. */
export function fitsInMemory(bytes: number, blockCount = 1): boolean {
  return bytes <= (blockCount > 1 ? BLOCKS_STATES_BYTES : MEMORY_STATES_BYTES);
}

/** Creates stores in memory, or in scratch space if too large. @param windowBytes bytes of one window's hidden states */
export function storeFactory({ platform, onEnd }: JobContext, windowBytes: number): PruneJob['createStore'] {
  return async (windowCount, blockCount = 1) => {
    if (fitsInMemory(windowCount * blockCount * windowBytes, blockCount)) return createMemoryStore();
    const scratch = await platform.createScratch();
    onEnd(() => scratch.dispose());
    return createSpilledStore(scratch);
  };
}
