import { isRecord } from '../parse-json.js';

/** Character of each byte in GPT-2's byte-level alphabet. */
const BYTE_CHARACTERS: readonly string[] = makeByteCharacters();

const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = new Map(BYTE_CHARACTERS.map((char, byte) => [char, byte]));

/** Underscore that SentencePiece writes for a space. */
const SPACE_MARK = '\u2581';

const BYTE_TOKEN = /^<0x([0-9A-F]{2})>$/;

/** Character for a byte in a byte-level vocabulary. */
export const byteCharacter = (byte: number): string => BYTE_CHARACTERS[byte]!;

/** Token for a byte in a vocabulary with byte fallback, such as `<0x0A>`. */
export const byteToken = (byte: number): string => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;

/** Whether a tokenizer writes text as bytes before it merges: a `ByteLevel` pre-tokenizer or normalizer. */
export function isByteLevel(tokenizerJson: Readonly<Record<string, unknown>>): boolean {
  return [tokenizerJson.pre_tokenizer, tokenizerJson.normalizer].some((part) => hasType(part, 'ByteLevel'));
}

/** Whether a part of tokenizer.json has a type, or is a sequence with such a part. */
export function hasType(part: unknown, type: string): boolean {
  if (!isRecord(part)) return false;
  if (part.type === type) return true;
  return [part.pretokenizers, part.normalizers, part.decoders, part.processors].some(
    (list) => Array.isArray(list) && list.some((inner) => hasType(inner, type)),
  );
}

/** Characters that the decoder writes as spaces: SentencePiece's, and those of `Metaspace` and `Replace`. */
export function spaceMarksOf({ decoder }: Readonly<Record<string, unknown>>): ReadonlySet<string> {
  const marks = new Set([SPACE_MARK]);
  const collect = (part: unknown): void => {
    if (!isRecord(part)) return;
    if (Array.isArray(part.decoders)) part.decoders.forEach(collect);
    const { String: replaced } = Object(part.pattern) as { readonly String?: unknown };
    const mark = part.type === 'Metaspace' ? part.replacement : part.content === ' ' ? replaced : undefined;
    if (typeof mark === 'string' && mark !== '') marks.add(mark);
  };
  collect(decoder);
  return marks;
}

/**
 * Creates a function from a token that is not an added token to its UTF-8 bytes. A character's bytes may be split over
 * several tokens.
 * @param tokenizerJson parsed contents of `tokenizer.json`
 */
export function tokenBytesOf(tokenizerJson: Readonly<Record<string, unknown>>): (content: string) => Uint8Array {
  const encoder = new TextEncoder();
  const model = isRecord(tokenizerJson.model) ? tokenizerJson.model : {};
  if (isByteLevel(tokenizerJson)) {
    return (content) => {
      const characters = Array.from(content);
      const bytes = characters.map((character) => BYTE_OF_CHARACTER.get(character));
      // Tokens with characters outside the byte alphabet are plain text.
      return bytes.includes(undefined) ? encoder.encode(content) : Uint8Array.from(bytes as number[]);
    };
  }
  const marks = [...spaceMarksOf(tokenizerJson)];
  const prefix = model.type === 'WordPiece' ? String(model.continuing_subword_prefix ?? '##') : '';
  return (content) => {
    const [, hex] = (model.byte_fallback === true && BYTE_TOKEN.exec(content)) || [];
    if (hex !== undefined) return Uint8Array.of(Number.parseInt(hex, 16));
    const text = prefix !== '' && content.startsWith(prefix) ? content.slice(prefix.length) : content;
    return encoder.encode(marks.reduce((spaced, mark) => spaced.replaceAll(mark, ' '), text));
  };
}

/** Printable bytes stand for themselves, the others for characters from U+0100 on. */
function makeByteCharacters(): string[] {
  const isPrintable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPrintable(byte) ? byte : next++));
}
