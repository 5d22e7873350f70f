/**
 * Indices of the remaining blocks, if the remaining inputs are whole blocks in their inner order, a shorter block last.
 * @param keep Remaining inputs, in their new order.
 * @returns undefined if a block is divided
 */
export function completeBlocks(keep: Int32Array, inCount: number, blockSize: number): Int32Array | undefined {
  const blocks: number[] = [];
  for (let at = 0; at < keep.length; ) {
    const first = keep[at]!;
    const width = Math.min(blockSize, inCount - first);
    if (first % blockSize > 0 || (width < blockSize && at + width < keep.length)) return undefined;
    for (let place = 0; place < width; place += 1) if (keep[at + place] !== first + place) return undefined;
    blocks.push(first / blockSize);
    at += width;
  }
  return Int32Array.from(blocks);
}
