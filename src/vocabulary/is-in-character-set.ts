import type { CharacterSet } from './languages.js';

/** Most code points that a broken character is tried with. */
const MAX_TRIED = 4096;

/**
 * Whether all characters of a token are in a set, those included that it only begins. A token that only ends a character is in none.
 * @param bytes what the token stands for, in UTF-8
 */
export function isInCharacterSet(bytes: Uint8Array, characters: CharacterSet): boolean {
  const codePoints: number[] = [];
  let isAllOfAny = bytes.length > 0;
  let at = 0;
  // The end of a character that another token begins.
  while (at < bytes.length && isContinuation(bytes[at]!)) at += 1;
  if (at === bytes.length) return bytes.length === 0;
  while (at < bytes.length) {
    const lead = bytes[at]!;
    const length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    const found = bytes.subarray(at, at + length);
    const value = found.reduce(
      (sum, byte, index) => (index === 0 ? leadBits(byte, length) : sum * 64 + (byte & 0x3f)),
      0,
    );
    if (found.length === length) codePoints.push(value);
    else isAllOfAny &&= beginsAny(value, 64 ** (length - found.length), characters);
    at += length;
  }
  if (!isAllOfAny) return false;
  const [only, ...others] = codePoints.filter((codePoint) => codePoint !== 0x20);
  if (only !== undefined && others.length === 0) return characters.alone(only);
  return codePoints.every(characters.inWords);
}

const isContinuation = (byte: number): boolean => byte >= 0x80 && byte < 0xc0;

const leadBits = (byte: number, length: number): number => (length === 1 ? byte : byte & (0x7f >> length));

/** Whether any of the characters that begin so is written. */
function beginsAny(value: number, count: number, { alone }: CharacterSet): boolean {
  const first = value * count;
  if (count > MAX_TRIED) return false;
  for (let codePoint = first; codePoint < Math.min(first + count, 0x110000); codePoint += 1)
    if ((codePoint < 0xd800 || codePoint > 0xdfff) && alone(codePoint)) return true;
  return false;
}
