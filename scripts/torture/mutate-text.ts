import type { Random } from '../../src/linalg/random.js';
import { drawIndex, drawOne, type Mutant, mutateBytes } from './mutate-bytes.js';
import { mutateJson } from './mutate-json.js';

/** Possible beginnings of a file. */
const BYTE_ORDER_MARKS: readonly (readonly number[])[] = [
  [0xef, 0xbb, 0xbf],
  [0xff, 0xfe],
  [0xfe, 0xff],
];

/** Bytes that are not UTF-8: half a surrogate pair, a byte that starts nothing, an overlong slash, a character cut off. */
const NOT_UTF8: readonly (readonly number[])[] = [[0xed, 0xa0, 0x80], [0x80], [0xc0, 0xaf], [0xf0, 0x9f, 0x98]];

/** Depths beyond any valid file, up to a stack overflow. */
const DEPTHS: readonly number[] = [101, 10_000, 1_000_000];

/** Length of a rare line: it takes a second to write and read. */
const LONG_LINE_BYTES = 100 * 2 ** 20;
const LONG_LINE_SHARE = 0.02;

type TextMutation = (text: string, random: Random) => string | Uint8Array;

const insert = (text: string, at: number, added: string): string => text.slice(0, at) + added + text.slice(at);

/** A position after a brace, a bracket, a colon or a comma, where JSON has a value or a key. */
function drawJsonPlace(text: string, random: Random): number {
  const start = drawIndex(random, text.length + 1);
  const found = text.slice(start).search(/[[{:,]/);
  return found < 0 ? start : start + found + 1;
}

const nested = (depth: number, [open, close]: readonly [string, string]): string =>
  `${open.repeat(depth)}0${close.repeat(depth)}`;

const MUTATIONS: Readonly<Record<string, TextMutation>> = {
  byteOrderMark: (text, random) =>
    Buffer.concat([Uint8Array.from(drawOne(random, BYTE_ORDER_MARKS)), Buffer.from(text)]),
  utf16: (text, random) =>
    Buffer.concat([Uint8Array.of(0xff, 0xfe), Buffer.from(text, 'utf16le')]).subarray(drawOne(random, [0, 2])),
  zeros: (text, random) =>
    insert(text, drawIndex(random, text.length + 1), '\u0000'.repeat(drawOne(random, [1, 1000]))),
  notUtf8(text, random) {
    const at = drawIndex(random, text.length + 1);
    const bytes = Uint8Array.from(drawOne(random, NOT_UTF8));
    return Buffer.concat([Buffer.from(text.slice(0, at)), bytes, Buffer.from(text.slice(at))]);
  },
  halfPair: (text, random) =>
    insert(text, drawIndex(random, text.length + 1), drawOne(random, ['\\ud800', '\\udc00', '\\uD83D'])),
  empty: (_, random) => drawOne(random, ['', ' ', '\n', '\n\n\n', '\u0000', '{}', '[]', 'null', '""', '0']),
  nested: (_, random) =>
    nested(
      drawOne(random, DEPTHS),
      drawOne(random, [
        ['[', ']'],
        ['{"a":', '}'],
      ] as const),
    ),
  nestedInside: (text, random) =>
    insert(text, drawJsonPlace(text, random), `${nested(drawOne(random, DEPTHS), ['[', ']'])},`),
  notClosed: (text, random) => insert(text, drawJsonPlace(text, random), '['.repeat(drawOne(random, DEPTHS))),
  /** Repeats a key with another value: parsers use the last one. */
  keyTwice(text, random) {
    const keys = [...text.slice(0, 100_000).matchAll(/"(\w+)"\s*:/g)];
    if (keys.length === 0) return text;
    const { 0: key, index } = drawOne(random, keys);
    return insert(text, index, `${key}${drawOne(random, ['null', '-1', '"x"', '[]', '{}', '1e999'])},`);
  },
  prototype: (text, random) =>
    insert(
      text,
      drawJsonPlace(text, random),
      drawOne(random, ['"__proto__":{"polluted":true},', '"constructor":null,', '"toString":1,']),
    ),
  number(text, random) {
    // A pattern that looks behind a number passes long blanks again from each of their places.
    const numbers = [...text.slice(0, 100_000).matchAll(/([[,:])(\s*)(-?\d[\d.eE+-]*)/g)];
    if (numbers.length === 0) return text;
    const { 1: before = '', 2: blanks = '', 3: found = '', index } = drawOne(random, numbers);
    const other = drawOne(random, [
      '1e400',
      '-1e400',
      '9'.repeat(400),
      '-0',
      '1e-400',
      '0.1',
      '9007199254740993',
      '18446744073709551616',
      '-1',
      'NaN',
      '0x10',
      '4294967296',
    ]);
    const at = index + before.length + blanks.length;
    return text.slice(0, at) + other + text.slice(at + found.length);
  },
  lineTwice(text, random) {
    const lines = text.split('\n');
    const at = drawIndex(random, lines.length);
    lines.splice(at, 0, ...new Array<string>(drawOne(random, [1, 1, 1000])).fill(lines[at]!));
    return lines.join('\n');
  },
  lineGone(text, random) {
    const lines = text.split('\n');
    lines.splice(drawIndex(random, lines.length), 1);
    return lines.join('\n');
  },
  linesSwapped(text, random) {
    const lines = text.split('\n');
    const [a, b] = [drawIndex(random, lines.length), drawIndex(random, lines.length)];
    [lines[a], lines[b]] = [lines[b]!, lines[a]!];
    return lines.join('\n');
  },
  noLines: (text) => text.replaceAll('\n', ' '),
  otherLines: (text, random) => text.replaceAll('\n', drawOne(random, ['\r', '\r\n', '\n\n', '\u2028'])),
  cut: (text, random) => text.slice(0, drawIndex(random, text.length + 1)),
  longLine(text, random) {
    if (random() >= LONG_LINE_SHARE) return insert(text, drawIndex(random, text.length + 1), 'x'.repeat(100_000));
    const at = drawIndex(random, text.length + 1);
    const long = Buffer.alloc(LONG_LINE_BYTES, drawOne(random, ['x', 'x ', '[', '"', '\\', ' ']));
    return Buffer.concat([Buffer.from(text.slice(0, at)), long, Buffer.from(text.slice(at))]);
  },
};

/** Changes characters of a text in one or two places, without regard to its meaning; in one of five cases bytes instead. */
export function mutateText(content: Uint8Array, random: Random): Mutant<Uint8Array> {
  if (random() < 0.2) return mutateBytes(content, random);
  const names: string[] = [];
  let value = content;
  for (let left = 1 + drawIndex(random, 2); left > 0; left--) {
    const name = drawOne(random, Object.keys(MUTATIONS));
    const made = MUTATIONS[name]!(new TextDecoder('utf-8', { ignoreBOM: true }).decode(value), random);
    value = typeof made === 'string' ? new TextEncoder().encode(made) : made;
    names.push(name);
    if (value.length > LONG_LINE_BYTES) break;
  }
  return { value, what: names.join(', ') };
}

/** Changes a JSON document: half the time its values, half the time its text. */
export function mutateDocument(content: Uint8Array, random: Random): Mutant<Uint8Array> {
  return random() < 0.5 ? mutateText(content, random) : mutateJson(new TextDecoder().decode(content), random);
}

/** Changes a file of JSON lines: values of one or all lines, or its text. */
export function mutateLines(content: Uint8Array, random: Random): Mutant<Uint8Array> {
  if (random() < 0.5) return mutateText(content, random);
  const lines = new TextDecoder().decode(content).trimEnd().split('\n');
  const at = random() < 0.3 ? 0 : drawIndex(random, lines.length);
  const { value, what } = mutateJson(lines[at]!, random);
  const parts = lines.map((line, other) => (other === at ? value : new TextEncoder().encode(line)));
  return { value: Buffer.concat(parts.flatMap((part) => [part, Uint8Array.of(10)])), what: `line ${at + 1}: ${what}` };
}
