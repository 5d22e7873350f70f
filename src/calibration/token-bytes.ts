import { isRecord } from '../parse-json.js';

/** Characters that GPT-2's byte-level alphabet writes bytes as, by byte. */
const BYTE_CHARACTERS: readonly string[] = makeByteCharacters();

const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = new Map(BYTE_CHARACTERS.map((char, byte) => [char, byte]));

/** Code point of the underscore that SentencePiece writes spaces as. */
const SPACE_MARK = /\u2581/g;

const BYTE_TOKEN = /^<0x([0-9A-F]{2})>$/;

/** Character that stands for a byte in a byte-level vocabulary. */
export const byteCharacter = (byte: number): string => BYTE_CHARACTERS[byte]!;

/** Token that stands for a byte in a vocabulary with byte fallback, such as `<0x0A>`. */
export const byteToken = (byte: number): string => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;

/** Whether a tokenizer writes text as bytes before it merges: a `ByteLevel` pre-tokenizer or normalizer. */
export function isByteLevel(tokenizerJson: Readonly<Record<string, unknown>>): boolean {
  return [tokenizerJson.pre_tokenizer, tokenizerJson.normalizer].some((part) => holdsType(part, 'ByteLevel'));
}

/** Whether a part of tokenizer.json is of a type, or a sequence with one that is. */
export function holdsType(part: unknown, type: string): boolean {
  if (!isRecord(part)) return false;
  if (part.type === type) return true;
  return [part.pretokenizers, part.normalizers, part.decoders, part.processors].some(
    (list) => Array.isArray(list) && list.some((inner) => holdsType(inner, type)),
  );
}

/**
 * Reads which bytes a token of a vocabulary stands for; bytes of a character may be shared by several tokens.
 * @param tokenizerJson parsed contents of `tokenizer.json`
 * @returns the UTF-8 bytes of a token that is no added token
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
  const prefix = model.type === 'WordPiece' ? String(model.continuing_subword_prefix ?? '##') : '';
  return (content) => {
    const [, hex] = (model.byte_fallback === true && BYTE_TOKEN.exec(content)) || [];
    if (hex !== undefined) return Uint8Array.of(Number.parseInt(hex, 16));
    const text = prefix !== '' && content.startsWith(prefix) ? content.slice(prefix.length) : content;
    return encoder.encode(text.replace(SPACE_MARK, ' '));
  };
}

/** Printable bytes stand for themselves, the others for characters from U+0100 on. */
function makeByteCharacters(): string[] {
  const isPrintable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPrintable(byte) ? byte : next++));
}
