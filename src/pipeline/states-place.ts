import type { StatesPlace } from '../options/folder.js';

/** Hidden states beyond this go to scratch space: a laptop's browser and editor need memory too. */
const MEMORY_STATES_BYTES = 256 * 2 ** 20;
/** The same for what grows with the blocks, so that memory hardly does. */
const BLOCKS_STATES_BYTES = 16 * 2 ** 20;

/** Where so many bytes wait, of one block or of several at once. @param place what the user chose */
export function statesPlace(place: StatesPlace | undefined, bytes: number, blockCount = 1): StatesPlace {
  return place ?? (bytes > (blockCount > 1 ? BLOCKS_STATES_BYTES : MEMORY_STATES_BYTES) ? 'spill' : 'memory');
}
