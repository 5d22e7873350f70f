import { byteCharacter, byteToken, spaceMarksOf } from '../calibration/token-bytes.js';
import { UnsupportedModelError } from '../errors.js';
import { isRecord } from '../parse-json.js';
import { fallbackToken, type TokenizerFile } from './tokenizer-file.js';

/**
 * Ids of the tokens without which some texts could not be encoded, or would have other tokens: bytes or single characters,
 * the unknown token, and every added token.
 * @throws UnsupportedModelError for WordPiece without single-character tokens of a character, at the start and inside of words
 */
export function findFallbackTokens(file: TokenizerFile): ReadonlySet<number> {
  const { json, modelIds, addedIds } = file;
  const model = json.model as Readonly<Record<string, unknown>>;
  const ids = new Set(addedIds);
  const add = (content: unknown) => {
    const id = typeof content === 'string' ? modelIds.get(content) : undefined;
    if (id !== undefined) ids.add(id);
  };
  add(model.unk_token);
  for (const content of FALLBACKS[file.kind](file)) add(content);
  return ids;
}

const ALL_BYTES = Array.from({ length: 256 }, (_, byte) => byte);

const FALLBACKS: Readonly<Record<TokenizerFile['kind'], (file: TokenizerFile) => Iterable<string>>> = {
  'byte-level BPE': () => ALL_BYTES.map(byteCharacter),
  // Bytes of a mark are not decoded to a space.
  'BPE with byte fallback': ({ json, modelIds }) => [
    ...ALL_BYTES.map((byte) => fallbackToken(byte, modelIds)),
    ...spaceMarksOf(json),
  ],
  BPE: charactersAndWords,
  WordPiece: wordPieceCharacters,
  Unigram: unigramPieces,
};

function* charactersAndWords(file: TokenizerFile): Generator<string> {
  yield* singlesAndBytes(file);
  if (file.ignoresMerges) yield* withoutCharacters(file);
}

function* singlesAndBytes(file: TokenizerFile): Generator<string> {
  yield* singleCharacters(file);
  for (const byte of ALL_BYTES) yield byteToken(byte);
}

function* singleCharacters({ modelIds }: TokenizerFile): Generator<string> {
  for (const content of modelIds.keys()) if (isSingle(content)) yield content;
}

/** Tokens with a character that is no token: without them it would be unknown. */
function* withoutCharacters({ modelIds }: TokenizerFile): Generator<string> {
  for (const content of modelIds.keys())
    if (Array.from(content).some((character) => !modelIds.has(character))) yield content;
}

/** Single characters, since not every library falls back to bytes; and the lowest score, which defines that of unknown characters. */
function* unigramPieces(file: TokenizerFile): Generator<string> {
  const { vocab, unk_id: unknown } = file.json.model as { readonly vocab: unknown; readonly unk_id?: unknown };
  const pieces = vocab as readonly (readonly [string, number])[];
  yield* singlesAndBytes(file);
  yield* withoutCharacters(file);
  if (typeof unknown === 'number' && pieces[unknown] !== undefined) yield pieces[unknown][0];
  let [lowest] = pieces;
  for (const piece of pieces) if (lowest === undefined || piece[1] < lowest[1]) lowest = piece;
  if (lowest !== undefined) yield lowest[0];
}

/** Words can still be encoded if each of their characters is a token, at the start or inside of words. */
function* wordPieceCharacters({ json, modelIds }: TokenizerFile): Generator<string> {
  const model = isRecord(json.model) ? json.model : {};
  const prefix = String(model.continuing_subword_prefix ?? '##');
  const added = new Set(
    (Array.isArray(json.added_tokens) ? json.added_tokens : []).map((token) => Object(token).content),
  );
  const [initial, later] = [new Set<string>(), new Set<string>()];
  for (const content of modelIds.keys()) {
    if (added.has(content) || content === model.unk_token) continue;
    const isLater = content.startsWith(prefix) && content.length > prefix.length;
    const characters = Array.from(isLater ? content.slice(prefix.length) : content);
    for (const [at, character] of characters.entries()) (isLater || at > 0 ? later : initial).add(character);
  }
  for (const [characters, start] of [
    [initial, ''],
    [later, prefix],
  ] as const) {
    for (const character of characters) {
      if (!modelIds.has(start + character))
        throw new UnsupportedModelError(
          `tokenizer.json has WordPiece tokens with ${JSON.stringify(character)}, but no token ${JSON.stringify(start + character)}: some words could not be encoded without longer tokens`,
        );
      yield start + character;
    }
  }
}

function isSingle(content: string): boolean {
  const [, ...others] = content;
  return content !== '' && others.length === 0;
}
