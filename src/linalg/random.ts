/** Draws uniformly from [0, 1). */
export type Random = () => number;

/**
 * Creates a seeded generator: sfc32 (period above 2^64 for every seed), its state filled by splitmix32.
 * The same seed gives the same numbers on every platform.
 *
 * @param seed Any finite number; its fraction and bits beyond 53 are dropped.
 * @see https://pracrand.sourceforge.net/RNG_engines.txt
 */
export function createRandom(seed: number): Random {
  const whole = Number.isFinite(seed) ? Math.trunc(seed) : 0;
  const low = splitMix32(whole);
  // The upper half of a large seed counts too: 1 and 2^32 + 1 are different seeds.
  const high = splitMix32(Math.floor(whole / 0x100000000));
  let a = low();
  let b = high();
  let c = low();
  let counter = 1;
  const next = () => {
    const result = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + result) | 0;
    return (result >>> 0) / 0x100000000;
  };
  for (let warmUp = 0; warmUp < 12; warmUp++) next();
  return next;
}

/** Independent generators of one seed, by index, which becomes the seed's upper half. */
export function createStream(seed: number, index: number): Random {
  return createRandom((seed >>> 0) + index * 2 ** 32);
}

function splitMix32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = state ^ (state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x735a2d97);
    return mixed ^ (mixed >>> 15);
  };
}

/** One draw from the standard normal distribution (Box-Muller). */
export function drawNormal(random: Random): number {
  // 1 - u is in (0, 1], where the logarithm is finite.
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** A random permutation of `0..length-1` (Fisher-Yates). */
export function drawPermutation(random: Random, length: number): Int32Array {
  const order = Int32Array.from({ length }, (_, index) => index);
  for (let last = length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    const moved = order[last]!;
    order[last] = order[other]!;
    order[other] = moved;
  }
  return order;
}
