import { findOverlap, withoutOverlaps } from '../../src/evaluation/find-overlap.js';
import { createRandom } from '../../src/linalg/random.js';

const draw = (seed: number, length: number, vocabularySize = 50_000) => {
  const random = createRandom(seed);
  return Int32Array.from({ length }, () => Math.floor(random() * vocabularySize));
};

/** A direct count by the definition. */
function countShared(text: Int32Array, other: Int32Array, length: number): number {
  const passages = new Set<string>();
  for (let start = 0; start + length <= other.length; start++)
    passages.add(other.subarray(start, start + length).join());
  const shared = new Set<number>();
  for (let start = 0; start + length <= text.length; start++) {
    if (!passages.has(text.subarray(start, start + length).join())) continue;
    for (let at = start; at < start + length; at++) shared.add(at);
  }
  return shared.size;
}

describe('the overlap of two texts', () => {
  it('is 0 for different texts, and all tokens for equal ones', () => {
    const text = draw(1, 2000);
    expect(findOverlap([text], [draw(2, 2000)])).toEqual({ passageLength: 13, sharedCount: 0, tokenCount: 2000 });
    expect(findOverlap([text], [text]).sharedCount).toBe(2000);
    expect(findOverlap([text.subarray(0, 1000), text.subarray(1000)], [text]).sharedCount).toBe(2000);
  });

  it('excludes sequences that share a passage', () => {
    const [other, apart, close] = [draw(3, 500), draw(4, 300), draw(5, 300)];
    close.set(other.subarray(100, 113), 50);
    apart.set(other.subarray(100, 112), 50);
    expect(withoutOverlaps([apart, close], [other])).toEqual([apart]);
  });

  it.each([
    [12, 0],
    [13, 13],
    [40, 40],
  ])('counts a shared run of %i tokens as %i', (length, counted) => {
    const other = draw(3, 500);
    const text = draw(4, 300);
    text.set(other.subarray(100, 100 + length), 50);
    expect(findOverlap([text], [other]).sharedCount).toBe(counted);
  });

  it('does not extend across sequences', () => {
    const other = draw(5, 26);
    expect(findOverlap([other.subarray(0, 12), other.subarray(12, 24)], [other]).sharedCount).toBe(0);
    expect(findOverlap([other], [other.subarray(0, 12), other.subarray(12, 24)]).sharedCount).toBe(0);
  });

  it.each([1, 2, 3, 4, 5])('equals a direct count by the definition (texts %i)', (seed) => {
    // Two token ids and short passages: many runs are shared, and many hashes are compared.
    const [text, other] = [draw(seed, 400, 2), draw(seed + 100, 60, 2)];
    expect(findOverlap([text], [other], 7).sharedCount).toBe(countShared(text, other, 7));
  });

  it('accepts ids of any size, and texts shorter than a passage', () => {
    const long = Int32Array.from({ length: 30 }, (_, at) => 2 ** 31 - 1 - at);
    expect(findOverlap([long], [long]).sharedCount).toBe(30);
    expect(findOverlap([long.subarray(0, 5)], [long])).toEqual({ passageLength: 13, sharedCount: 0, tokenCount: 5 });
  });
});
