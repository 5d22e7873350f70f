/** Packs codes of two or four bits into bytes, the first in the lowest bits; every row of `width` codes begins a byte. */
export function packBits(codes: Uint8Array, bits: number, width: number): Uint8Array<ArrayBuffer> {
  if (bits > 4) return Uint8Array.from(codes);
  const perByte = 8 / bits;
  const rowBytes = Math.ceil(width / perByte);
  const packed = new Uint8Array((codes.length / width) * rowBytes);
  // Rows of entire bytes in four bits, the usual case, take a third of the time.
  if (bits === 4 && width % 2 === 0) {
    for (let byte = 0; byte < packed.length; byte += 1) packed[byte] = codes[2 * byte]! | (codes[2 * byte + 1]! << 4);
    return packed;
  }
  for (let start = 0, byte = 0; start < codes.length; start += width) {
    for (let column = 0; column < width; column += perByte, byte += 1) {
      const end = Math.min(width, column + perByte);
      let joined = 0;
      for (let at = column; at < end; at += 1) joined |= codes[start + at]! << (bits * (at - column));
      packed[byte] = joined;
    }
  }
  return packed;
}

/** @see packBits */
export function unpackBits(packed: Uint8Array, bits: number, width: number): Uint8Array<ArrayBuffer> {
  if (bits > 4) return Uint8Array.from(packed);
  const perByte = 8 / bits;
  const rowBytes = Math.ceil(width / perByte);
  const codes = new Uint8Array((packed.length / rowBytes) * width);
  const mask = 2 ** bits - 1;
  for (let start = 0, byte = 0; start < codes.length; start += width) {
    for (let column = 0; column < width; column += perByte, byte += 1) {
      const end = Math.min(width, column + perByte);
      for (let at = column, joined = packed[byte]!; at < end; at += 1, joined >>= bits)
        codes[start + at] = joined & mask;
    }
  }
  return codes;
}

/** Swaps the two codes of each byte. */
export const swapHalves = (packed: Uint8Array): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(packed, (byte) => ((byte & 15) << 4) | (byte >> 4));
