import type { Random } from '../../src/linalg/random.js';

/** A changed copy, and a description of the change. */
export interface Mutant<T> {
  readonly value: T;
  readonly what: string;
  /** Other files that change with it, relative to the folder of the trial: a file that names this one's hash. */
  readonly also?: ReadonlyMap<string, FileContent>;
}

/** Content of a file name: bytes, a link, or a sparse file with some parts. */
export type FileContent =
  | Uint8Array
  | { readonly link: string }
  | { readonly byteLength: number; readonly parts: readonly { readonly at: number; readonly bytes: Uint8Array }[] };

/** An integer in `[0, count)`. */
export const drawIndex = (random: Random, count: number): number => Math.floor(random() * count);

/** One of a list that is not empty. */
export const drawOne = <T>(random: Random, items: readonly T[]): T => items[drawIndex(random, items.length)]!;

type ByteMutation = (bytes: Uint8Array, random: Random) => Uint8Array;

const splice = (bytes: Uint8Array, at: number, removed: number, added: Uint8Array): Uint8Array => {
  const out = new Uint8Array(bytes.length - removed + added.length);
  out.set(bytes.subarray(0, at));
  out.set(added, at);
  out.set(bytes.subarray(at + removed), at + added.length);
  return out;
};

/** A stretch of at most `limit` bytes. */
function drawStretch(bytes: Uint8Array, random: Random, limit: number): [start: number, end: number] {
  const start = drawIndex(random, bytes.length);
  return [start, Math.min(bytes.length, start + 1 + drawIndex(random, limit))];
}

const MUTATIONS: Readonly<Record<string, ByteMutation>> = {
  flip(bytes, random) {
    const at = drawIndex(random, bytes.length);
    return splice(bytes, at, 1, Uint8Array.of(bytes[at]! ^ (1 << drawIndex(random, 8))));
  },
  overwrite: (bytes, random) =>
    splice(bytes, drawIndex(random, bytes.length), 1, Uint8Array.of(drawOne(random, [0, 1, 0x7f, 0x80, 0xff]))),
  cut: (bytes, random) => bytes.slice(0, drawIndex(random, bytes.length)),
  insert: (bytes, random) =>
    splice(
      bytes,
      drawIndex(random, bytes.length),
      0,
      Uint8Array.from({ length: 1 + drawIndex(random, 16) }, () => drawIndex(random, 256)),
    ),
  remove(bytes, random) {
    const [start, end] = drawStretch(bytes, random, 64);
    return splice(bytes, start, end - start, new Uint8Array(0));
  },
  repeat(bytes, random) {
    const [start, end] = drawStretch(bytes, random, 4096);
    return splice(bytes, end, 0, bytes.slice(start, end));
  },
  /** Replaces a possible length or count by one of up to 2^63. */
  growVarint: (bytes, random) =>
    splice(
      bytes,
      drawIndex(random, bytes.length),
      1,
      Uint8Array.from({ length: 2 + drawIndex(random, 8) }, (_, at) => (at === 0 ? 0x7f : 0xff)).reverse(),
    ),
};

/** Changes bytes in one to three places, more often near the ends, which are not weights. */
export function mutateBytes(bytes: Uint8Array, random: Random): Mutant<Uint8Array> {
  const names: string[] = [];
  let value = bytes;
  for (let left = 1 + drawIndex(random, 3); left > 0 && value.length > 0; left--) {
    const name = drawOne(random, Object.keys(MUTATIONS));
    const edge = Math.min(value.length, 16_384);
    const start = drawOne(random, [0, value.length - edge, drawIndex(random, value.length - edge + 1)]);
    const part = MUTATIONS[name]!(value.subarray(start, start + edge), random);
    // A cut takes all that follows with it.
    value = name === 'cut' ? value.slice(0, start + part.length) : splice(value, start, edge, part);
    names.push(name);
  }
  return { value, what: names.join(', ') };
}
