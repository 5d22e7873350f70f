/** Consecutive tokens that two texts must share to count as the same passage. */
const OVERLAP_LENGTH = 13;

/** Tokens of a text that occur in another one. */
export interface Overlap {
  /** Consecutive tokens of a shared passage. */
  readonly passageLength: number;
  /** Tokens of the text in passages that the other text contains too. */
  readonly sharedCount: number;
  readonly tokenCount: number;
}

/**
 * Counts the tokens of `text` in passages of `passageLength` tokens that `other` contains too. Thirteen tokens are hardly
 * ever shared by chance; this length is common for finding test data in training data.
 *
 * @param text Token sequences; a passage is inside one sequence.
 * @see GPT-3 (Brown et al. 2020, arXiv 2005.14165), appendix C
 */
export function findOverlap(
  text: readonly Int32Array[],
  other: readonly Int32Array[],
  passageLength = OVERLAP_LENGTH,
): Overlap {
  const countShared = indexPassages(other, passageLength);
  let sharedCount = 0;
  let tokenCount = 0;
  for (const sequence of text) {
    tokenCount += sequence.length;
    sharedCount += countShared(sequence);
  }
  return { passageLength, sharedCount, tokenCount };
}

/** Token sequences that share no passage with others. @see findOverlap */
export function withoutOverlaps(sequences: readonly Int32Array[], others: readonly Int32Array[]): Int32Array[] {
  const countShared = indexPassages(others, OVERLAP_LENGTH);
  return sequences.filter((sequence) => countShared(sequence) === 0);
}

/** @returns A function that counts a sequence's tokens in passages that one of `sequences` contains too. */
function indexPassages(sequences: readonly Int32Array[], passageLength: number): (sequence: Int32Array) => number {
  const places = new Map<number, (readonly [sequence: Int32Array, start: number])[]>();
  for (const sequence of sequences) {
    eachPassage(sequence, passageLength, (hash, start) => {
      const known = places.get(hash);
      if (known === undefined) places.set(hash, [[sequence, start]]);
      else if (!known.some(([place, at]) => isSame(place, at, sequence, start, passageLength))) {
        known.push([sequence, start]);
      }
    });
  }
  return (sequence) => {
    let sharedCount = 0;
    let coveredEnd = 0;
    eachPassage(sequence, passageLength, (hash, start) => {
      const known = places.get(hash) ?? [];
      if (!known.some(([place, at]) => isSame(place, at, sequence, start, passageLength))) return;
      sharedCount += start + passageLength - Math.max(coveredEnd, start);
      coveredEnd = start + passageLength;
    });
    return sharedCount;
  };
}

/** Base and modulus of the rolling hash: products remain below 2^53. */
const BASE = 65_537;
const MODULUS = 4_294_967_291;
const multiply = (one: number, other: number): number => {
  // Split, since the product of two 32-bit numbers does not fit 53 bits.
  const high = Math.floor(one / 65_536);
  const low = one % 65_536;
  return (((((high * other) % MODULUS) * 65_536) % MODULUS) + low * other) % MODULUS;
};

function eachPassage(sequence: Int32Array, length: number, visit: (hash: number, start: number) => void): void {
  let leading = 1;
  for (let i = 1; i < length; i++) leading = multiply(leading, BASE);
  let hash = 0;
  for (let at = 0; at < sequence.length; at++) {
    if (at >= length) hash = (hash + MODULUS - multiply(sequence[at - length]! + 1, leading)) % MODULUS;
    hash = (multiply(hash, BASE) + sequence[at]! + 1) % MODULUS;
    if (at >= length - 1) visit(hash, at - length + 1);
  }
}

function isSame(one: Int32Array, oneStart: number, other: Int32Array, otherStart: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (one[oneStart + i] !== other[otherStart + i]) return false;
  return true;
}
