/**
 * The blocks that inputs come from, where all of each stay and in their order; a shorter last one stays last.
 * @param keep Inputs that stay, in their new order.
 * @returns undefined where a block is broken
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
