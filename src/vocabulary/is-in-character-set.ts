import type { CharacterSet } from './languages.js';

/** Largest number of code points to test for an incomplete character. */
const MAX_TRIED = 4096;

/**
 * Whether all characters of a token are in a set, including an incomplete last character. A token with only the end of a
 * character is in no set.
 * @param bytes UTF-8 of the token
 */
export function isInCharacterSet(bytes: Uint8Array, characters: CharacterSet): boolean {
  const codePoints: number[] = [];
  let isIncluded = bytes.length > 0;
  let at = 0;
  // Skips the end of a character that begins in another token.
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
    else isIncluded &&= beginsAny(value, 64 ** (length - found.length), characters);
    at += length;
  }
  if (!isIncluded) return false;
  const [only, ...others] = codePoints.filter((codePoint) => codePoint !== 0x20);
  if (only !== undefined && others.length === 0) return characters.alone(only);
  return codePoints.every(characters.inWords);
}

const isContinuation = (byte: number): boolean => byte >= 0x80 && byte < 0xc0;

const leadBits = (byte: number, length: number): number => (length === 1 ? byte : byte & (0x7f >> length));

/** Whether any character with these leading bits is in the set. */
function beginsAny(value: number, count: number, { alone }: CharacterSet): boolean {
  const first = value * count;
  if (count > MAX_TRIED) return false;
  for (let codePoint = first; codePoint < Math.min(first + count, 0x110000); codePoint += 1)
    if ((codePoint < 0xd800 || codePoint > 0xdfff) && alone(codePoint)) return true;
  return false;
}
