/** Turns text into token ids. */
export type Encode = (text: string) => ArrayLike<number>;

/** Longest text that is encoded at once: a tokenizer needs a few hundred bytes per character, and its time may grow faster than the text. */
const PIECE_LENGTH = 2 ** 18;

/** Characters on each side of a cut that are encoded separately and together, to check that the cut does not change tokens. */
const CONTEXT_LENGTH = 256;

/** Cuts that are tried for each piece. */
const MAX_TRIES = 32;

/** End of a piece and start of the next one; they differ by a space where the tokenizer itself adds one before every text. */
interface Cut {
  readonly end: number;
  readonly next: number;
}

/**
 * Encodes a long text piece by piece, so that time and memory grow linearly, and stops when there are enough tokens.
 * Pieces are cut before a space where the tokens stay the same; in a text without such a place each cut changes one or
 * two tokens.
 * @param enough tokens that are needed; more may be returned, and at least the first piece
 * @param pieceLength characters per piece
 */
export function* encodePieces(
  text: string,
  encode: Encode,
  { enough = Number.POSITIVE_INFINITY, pieceLength = PIECE_LENGTH } = {},
): Generator<ArrayLike<number>> {
  let [start, count] = [0, 0];
  while (start < text.length && (start === 0 || count < enough)) {
    const { end, next } =
      text.length - start <= pieceLength
        ? { end: text.length, next: text.length }
        : findCut(text, { least: start + pieceLength / 2, most: start + pieceLength }, encode);
    const tokens = encode(text.slice(start, end));
    yield tokens;
    count += tokens.length;
    start = next;
  }
}

function findCut(text: string, { least, most }: { least: number; most: number }, encode: Encode): Cut {
  let at = most;
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    at = text.lastIndexOf(' ', at - 1);
    if (at <= least) break;
    const cut = [at, at + 1].map((next) => ({ end: at, next })).find((cut) => keepsTokens(text, cut, encode));
    if (cut !== undefined) return cut;
  }
  const end = isLowSurrogate(text.charCodeAt(most)) ? most - 1 : most;
  return { end, next: end };
}

function keepsTokens(text: string, { end, next }: Cut, encode: Encode): boolean {
  const before = text.slice(end - CONTEXT_LENGTH, end);
  const after = text.slice(next, next + CONTEXT_LENGTH);
  const separate = [...Array.from(encode(before)), ...Array.from(encode(after))];
  const together = encode(text.slice(end - CONTEXT_LENGTH, next + CONTEXT_LENGTH));
  return separate.length === together.length && separate.every((token, index) => token === together[index]);
}

const isLowSurrogate = (code: number): boolean => code >= 0xdc00 && code < 0xe000;
