/** Hidden states beyond this go to scratch space: a laptop's browser and editor need memory too. */
const MEMORY_STATES_BYTES = 256 * 2 ** 20;
/** The same for what grows with the blocks, so that memory hardly does. */
const BLOCKS_STATES_BYTES = 16 * 2 ** 20;

/** Whether hidden states of one block, or of several at once, wait in memory; else they go to scratch space. */
export function fitsInMemory(bytes: number, blockCount = 1): boolean {
  return bytes <= (blockCount > 1 ? BLOCKS_STATES_BYTES : MEMORY_STATES_BYTES);
}
