import type { Tokenizer } from '@huggingface/tokenizers';
import { byteToken } from './token-bytes.js';

type Model = NonNullable<Tokenizer['model']>;

/**
 * Makes a model encode unknown pieces as `tokenizers` does. `@huggingface/tokenizers` 0.2.0 fuses those at the end of a word with
 * those of the next one, and ignores the byte fallback of Unigram.
 * @param json "model" of tokenizer.json
 */
export function encodeUnknownPieces(model: Model, json: Readonly<Record<string, unknown>>): void {
  if (!model.fuse_unk) return;
  model.fuse_unk = false;
  const encode = model.encode.bind(model);
  const ids = model.tokens_to_ids;
  const isUnknown = (piece: string) => (ids.get(piece) ?? model.unk_token_id) === model.unk_token_id;
  const fallsBack = json.type === 'Unigram' && json.byte_fallback === true;
  model.encode = (words) =>
    words.flatMap((word) => {
      const pieces = fuse(encode([word]), isUnknown);
      return fallsBack ? pieces.flatMap((piece) => (isUnknown(piece) ? bytesOf(piece, ids) : [piece])) : pieces;
    });
}

/** Joins neighbouring unknown pieces; a model writes them as text (Unigram) or as the unknown token (BPE). */
function fuse(pieces: readonly string[], isUnknown: (piece: string) => boolean): readonly string[] {
  const fused: string[] = [];
  let wasUnknown = false;
  for (const piece of pieces) {
    const unknown = isUnknown(piece);
    if (unknown && wasUnknown) fused[fused.length - 1] += piece;
    else fused.push(piece);
    wasUnknown = unknown;
  }
  return fused;
}

/** Byte tokens of a piece; the piece itself if one of them is missing. */
function bytesOf(piece: string, ids: ReadonlyMap<string, number>): readonly string[] {
  const tokens = Array.from(new TextEncoder().encode(piece), byteToken);
  return tokens.every((token) => ids.has(token)) ? tokens : [piece];
}
