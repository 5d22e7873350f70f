import { byteToken, hasType, isByteLevel } from '../calibration/token-bytes.js';
import { ModelFormatError, UnsupportedModelError } from '../errors.js';
import { isRecord } from '../parse-json.js';

type Json = Readonly<Record<string, unknown>>;

/** Model of a tokenizer, and its treatment of characters without a token. */
export type TokenizerKind =
  /** Merges of bytes. */
  | 'byte-level BPE'
  /**
   * Merges of characters; characters without a token become bytes: all 256 are tokens, except those of ASCII characters that are
   * tokens, and the decoder joins them.
   */
  | 'BPE with byte fallback'
  /** Merges of characters; characters without a token become the unknown token, or bytes that are tokens. */
  | 'BPE'
  /** Longest piece first. */
  | 'WordPiece'
  /** Most likely pieces. */
  | 'Unigram';

/** One merge of BPE, by token ids. */
export interface Merge {
  readonly left: number;
  readonly right: number;
  readonly result: number;
}

/** Contents of a tokenizer.json for trimming. */
export interface TokenizerFile {
  readonly json: Json;
  readonly kind: TokenizerKind;
  /** Ids of the model's tokens by content, without added tokens. */
  readonly modelIds: ReadonlyMap<string, number>;
  /** Contents by id, added tokens included; `undefined` for unused ids. */
  readonly contents: readonly (string | undefined)[];
  /** Ids of added tokens. */
  readonly addedIds: ReadonlySet<number>;
  /** By rank; empty for other models than BPE. */
  readonly merges: readonly Merge[];
  /** Whether words that are tokens are looked up before they are merged. */
  readonly ignoresMerges: boolean;
}

/**
 * Reads a tokenizer.json.
 * @throws UnsupportedModelError for a tokenizer that cannot be trimmed; ModelFormatError for one that contradicts itself.
 */
export function readTokenizerFile(json: Json): TokenizerFile {
  const { model } = json;
  if (!isRecord(model))
    throw new ModelFormatError('tokenizer.json must be an object with a "model"; get the file again');
  const modelIds = readVocabulary(model);
  const kind = kindOf(json, model, modelIds);
  const contents: (string | undefined)[] = [];
  for (const [content, id] of modelIds) {
    if (contents[id] !== undefined)
      throw new ModelFormatError(
        `tokenizer.json gives ${JSON.stringify(contents[id])} and ${JSON.stringify(content)} the same id ${id}; get the file again`,
      );
    contents[id] = content;
  }
  const addedIds = new Set<number>();
  for (const token of Array.isArray(json.added_tokens) ? json.added_tokens : []) {
    const { id, content } = Object(token) as Json;
    if (!Number.isInteger(id) || typeof content !== 'string')
      throw new ModelFormatError('tokenizer.json has an added token without id or content; get the file again');
    addedIds.add(id as number);
    contents[id as number] = content;
  }
  return {
    json,
    kind,
    modelIds,
    contents: Array.from(contents),
    addedIds,
    merges: kind.includes('BPE') ? readMerges(model, modelIds) : [],
    ignoresMerges: model.ignore_merges === true,
  };
}

function readVocabulary({ vocab }: Json): ReadonlyMap<string, number> {
  if (Array.isArray(vocab)) return new Map(vocab.map((piece, id) => [String((piece as unknown[])[0]), id]));
  if (isRecord(vocab)) return new Map(Object.entries(vocab) as [string, number][]);
  throw new ModelFormatError('tokenizer.json has a model without a vocab; get the file again');
}

function kindOf(json: Json, model: Json, ids: ReadonlyMap<string, number>): TokenizerKind {
  const { type = Array.isArray(model.merges) ? 'BPE' : undefined } = model;
  if (type === 'WordPiece' || type === 'Unigram') return type;
  if (type !== 'BPE')
    throw new UnsupportedModelError(
      `tokenizer.json has a model of type ${JSON.stringify(type ?? null)}; BPE, WordPiece and Unigram can be trimmed`,
    );
  for (const key of ['continuing_subword_prefix', 'end_of_word_suffix'] as const) {
    if (typeof model[key] === 'string' && model[key] !== '')
      throw new UnsupportedModelError(
        `tokenizer.json has BPE with the ${key} ${JSON.stringify(model[key])}; BPE without it can be trimmed`,
      );
  }
  if (isByteLevel(json)) return 'byte-level BPE';
  const hasBytes = Array.from({ length: 256 }, (_, byte) => fallbackToken(byte, ids)).every((token) => ids.has(token));
  const readsBytes = hasBytes && hasType(json.decoder, 'ByteFallback');
  return model.byte_fallback === true && readsBytes ? 'BPE with byte fallback' : 'BPE';
}

/** Token of a byte; where it is missing, that of its ASCII character: Gemma 2 has a tab instead of `<0x09>`. */
export function fallbackToken(byte: number, ids: ReadonlyMap<string, number>): string {
  const token = byteToken(byte);
  return ids.has(token) || byte > 0x7f ? token : String.fromCharCode(byte);
}

function readMerges({ merges }: Json, ids: ReadonlyMap<string, number>): Merge[] {
  if (!Array.isArray(merges)) throw new ModelFormatError('tokenizer.json has BPE without merges; get the file again');
  return merges.map((merge: unknown, rank) => {
    const [left, right] = splitMerge(merge);
    const found = { left: ids.get(left), right: ids.get(right), result: ids.get(left + right) };
    if (found.left === undefined || found.right === undefined || found.result === undefined)
      throw new ModelFormatError(
        `tokenizer.json has a merge (${rank}) of ${JSON.stringify(left)} and ${JSON.stringify(right)}, but lacks one of them, or their result, in its vocab; get the file again`,
      );
    return found as Merge;
  });
}

/** `"a b"`, or `["a", "b"]` since tokenizers 0.20. */
export function splitMerge(merge: unknown): readonly [string, string] {
  if (Array.isArray(merge)) return [String(merge[0]), String(merge[1])];
  const text = String(merge);
  const at = text.indexOf(' ');
  return [text.slice(0, at), text.slice(at + 1)];
}
