import { createRandom } from '../../src/linalg/random.js';

/** Ranges of code points that random texts are drawn from: scripts, signs and emoji. */
const RANGES: readonly (readonly [first: number, last: number])[] = [
  [0x20, 0x7e],
  [0x20, 0x7e],
  [0x61, 0x7a],
  [0xa1, 0xff],
  [0x100, 0x17f],
  [0x250, 0x2af],
  [0x300, 0x36f],
  [0x391, 0x3c9],
  [0x410, 0x44f],
  [0x531, 0x556],
  [0x5d0, 0x5ea],
  [0x620, 0x64a],
  [0x904, 0x939],
  [0x985, 0x9b9],
  [0xb85, 0xbb9],
  [0xe01, 0xe3a],
  [0x10d0, 0x10fa],
  [0x1200, 0x1248],
  [0x1780, 0x17b3],
  [0x1e00, 0x1eff],
  [0x2010, 0x2046],
  [0x2190, 0x22ff],
  [0x2500, 0x25ff],
  [0x3041, 0x3096],
  [0x30a1, 0x30fa],
  [0x4e00, 0x9fff],
  [0xac00, 0xd7a3],
  [0xe000, 0xe0ff],
  [0xff01, 0xff5e],
  [0x10330, 0x1034a],
  [0x1d400, 0x1d454],
  [0x1f300, 0x1f64f],
  [0x20000, 0x2a6df],
  [0x10ff00, 0x10fffd],
];

const SPACES = [' ', '  ', '\n', '\t', ' \n ', '\r\n'];

/** Strings of all scripts: runs of one script each, with spaces between some. */
export function randomTexts(count: number, seed = 1): readonly string[] {
  const random = createRandom(seed);
  const upTo = (limit: number) => Math.floor(random() * limit);
  return Array.from({ length: count }, () => {
    let text = '';
    for (let run = 1 + upTo(5); run > 0; run -= 1) {
      const [first, last] = RANGES[upTo(RANGES.length)]!;
      for (let length = 1 + upTo(8); length > 0; length -= 1)
        text += String.fromCodePoint(first + upTo(last - first + 1));
      if (random() < 0.4) text += SPACES[upTo(SPACES.length)]!;
    }
    return text;
  });
}

/** Strings of random pieces. @param pieces texts of tokens */
export function textsOfPieces(pieces: readonly string[], count: number, seed = 2): readonly string[] {
  const random = createRandom(seed);
  const piece = () => pieces[Math.floor(random() * pieces.length)]!;
  return Array.from({ length: count }, () => Array.from({ length: 1 + Math.floor(random() * 6) }, piece).join(''));
}
