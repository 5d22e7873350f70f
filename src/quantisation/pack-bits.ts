/** Codes of two or four bits share bytes, the first in the lowest bits; every row of `width` codes begins a byte. */
export function packBits(codes: Uint8Array, bits: number, width: number): Uint8Array<ArrayBuffer> {
  if (bits > 4) return Uint8Array.from(codes);
  const perByte = 8 / bits;
  const rowBytes = Math.ceil(width / perByte);
  const packed = new Uint8Array((codes.length / width) * rowBytes);
  for (let at = 0; at < codes.length; at += 1) {
    const column = at % width;
    packed[((at - column) / width) * rowBytes + Math.floor(column / perByte)]! |=
      codes[at]! << (bits * (column % perByte));
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
  for (let at = 0; at < codes.length; at += 1) {
    const column = at % width;
    const byte = packed[((at - column) / width) * rowBytes + Math.floor(column / perByte)]!;
    codes[at] = (byte >> (bits * (column % perByte))) & mask;
  }
  return codes;
}

/** Bytes of two codes each with the codes in the other order. */
export const swapHalves = (packed: Uint8Array): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(packed, (byte) => ((byte & 15) << 4) | (byte >> 4));
