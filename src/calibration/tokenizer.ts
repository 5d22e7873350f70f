import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { concatenate } from '../concatenate.js';
import { errorMessage } from '../error-message.js';
import { ModelFormatError } from '../errors.js';
import { isRecord } from '../parse-json.js';
import { encodePieces } from './encode-pieces.js';
import { withEquivalentSplits } from './equivalent-splits.js';
import { tokenBytesOf } from './token-bytes.js';
import { encodeUnknownPieces } from './unknown-pieces.js';

export interface EncodeOptions {
  /** Default false. */
  readonly addSpecialTokens?: boolean | undefined;
  /** Tokens needed, from the start. Default all. */
  readonly enough?: number | undefined;
}

/** Port to a tokenizer; `createTokenizer` creates one from a `tokenizer.json`. */
export interface Tokenizer {
  /** One more than the largest token id. */
  readonly vocabularySize: number;
  /** Token that starts a text, when the tokenizer has one. */
  readonly bosTokenId: number | undefined;
  /** Token that ends a text, when the tokenizer has one. */
  readonly eosTokenId: number | undefined;
  /**
   * Token ids of `text`; special tokens around it, such as BOS, only on request. Special tokens in the text itself are
   * encoded as such. With `enough` it may stop after that many tokens.
   */
  encode(text: string, options?: EncodeOptions): Int32Array;
  /** Text of `tokens`, with special tokens unless `skipSpecialTokens` is true. */
  decode(tokens: ArrayLike<number>, options?: { readonly skipSpecialTokens?: boolean }): string;
  /** UTF-8 bytes of the text of tokens, partial characters included. Absent: unknown, so that bits per byte are not measured. */
  countBytes?(tokens: ArrayLike<number>): number;
}

/**
 * Runs a synchronous action, and stops it after `ms` milliseconds of processor time. On a busy machine a stopped action
 * is retried, with `attempt` counted from 0; its state may be half changed then.
 * @returns the result, and its processor time, in ms; 0 on platforms without a limit.
 * @throws EngineError when it was stopped; errors of `action`.
 */
export type LimitTime = <T>(action: (attempt: number) => T, ms: number) => { readonly value: T; readonly ms: number };

/** For platforms that cannot stop a computation. */
export const withoutLimit: LimitTime = (action) => ({ value: action(0), ms: 0 });

/**
 * Limits of a tokenizer's processor time, against catastrophic backtracking of patterns in its file. A normal one needs
 * 0.002 ms per character, and less than a second to construct.
 */
const [TIME_LIMIT_MS, TIME_LIMIT_MS_PER_CHARACTER] = [30_000, 0.1] as const;

/**
 * Classes of transformers 4 that put BOS before a text where `add_bos_token` is true, independent of the post-processor
 * in `tokenizer.json`. All other classes, and transformers 5, follow the post-processor alone.
 */
const ADD_BOS_CLASSES: ReadonlySet<string> = new Set([
  'LlamaTokenizer',
  'CodeLlamaTokenizer',
  'GemmaTokenizer',
  'CohereTokenizer',
  'GPTNeoXTokenizer',
]);

/** Above the size of any vocabulary. */
const MAX_TOKENS = 2 ** 24;

/**
 * Creates a tokenizer from the parsed contents of `tokenizer.json` and `tokenizer_config.json`.
 *
 * A text of more than 262,144 characters is encoded in pieces, cut where that changes no token. About 1.7 s for a
 * megabyte.
 *
 * @param limitTime Stops runaway computations, such as catastrophic backtracking; default: no limit. The tokenizer may
 *   take 30 s of processor time in total, and 0.1 ms for each character and token.
 * @throws ModelFormatError when the files do not describe a tokenizer, or it takes too long.
 */
export function createTokenizer(
  tokenizerJson: unknown,
  tokenizerConfig: unknown,
  limitTime: LimitTime = withoutLimit,
): Tokenizer {
  if (!isRecord(tokenizerJson) || !isRecord(tokenizerJson.model)) {
    throw new ModelFormatError('tokenizer.json must be an object with a "model"; get the file again');
  }
  if (!isRecord(tokenizerConfig)) {
    throw new ModelFormatError('tokenizer_config.json must be an object; get the file again');
  }
  checkIds(tokenizerJson);
  const limited = withTimeLimit(limitTime);
  const create = () => construct(tokenizerJson, tokenizerConfig);
  let tokenizer = limited(0, create);
  const call = <T>(length: number, action: () => T): T =>
    limited(length, (attempt) => {
      // A stopped call may leave an invalid cache.
      if (attempt > 0) tokenizer = create();
      return action();
    });
  const vocabulary = tokenizer.get_vocab();
  const idOf = (role: string) => {
    const content = tokenContent(tokenizerConfig[role]);
    return content === undefined ? undefined : vocabulary.get(content);
  };
  const byteCounts = countBytesOf(tokenizerJson, vocabulary);
  const bosTokenId = idOf('bos_token');
  const addsBos = bosTokenId !== undefined && requestsBos(tokenizerConfig);
  let vocabularySize = 0;
  for (const id of vocabulary.values()) vocabularySize = Math.max(vocabularySize, id + 1);
  return {
    vocabularySize,
    bosTokenId,
    eosTokenId: idOf('eos_token'),
    encode(text, { addSpecialTokens = false, enough } = {}) {
      const encodePiece = (piece: string) =>
        toIds(call(piece.length, () => tokenizer.encode(piece, { add_special_tokens: addSpecialTokens })));
      if (text === '') return new Int32Array(0);
      if (addSpecialTokens) {
        const ids = encodePiece(text);
        return addsBos && ids[0] !== bosTokenId ? concatenate(Int32Array, [[bosTokenId], ids]) : ids;
      }
      const parts = [...encodePieces(text, encodePiece, { enough })];
      return parts.length === 1 ? (parts[0] as Int32Array) : concatenate(Int32Array, parts);
    },
    countBytes: (tokens) => Array.from(tokens).reduce((sum, id) => sum + byteCounts(id), 0),
    decode(tokens, { skipSpecialTokens = false } = {}) {
      return tokens.length === 0
        ? ''
        : call(tokens.length, () => tokenizer.decode(Array.from(tokens), { skip_special_tokens: skipSpecialTokens }));
    },
  };
}

/** Bytes of a token; of an added token, those of its content. */
function countBytesOf(
  json: Readonly<Record<string, unknown>>,
  vocabulary: ReadonlyMap<string, number>,
): (id: number) => number {
  let counts: Uint32Array | undefined;
  const count = (): Uint32Array => {
    const added = new Set((Array.isArray(json.added_tokens) ? json.added_tokens : []).map(({ content }) => content));
    const bytesOf = tokenBytesOf(json);
    const largest = [...vocabulary.values()].reduce((most, id) => Math.max(most, id), 0);
    const found = new Uint32Array(largest + 1);
    for (const [content, id] of vocabulary) {
      // For gaps between ids the tokenizer lists a token without content.
      if (typeof content !== 'string') continue;
      found[id] = (added.has(content) ? new TextEncoder().encode(content) : bytesOf(content)).length;
    }
    return found;
  };
  return (id) => {
    counts ??= count();
    return counts[id] ?? 0;
  };
}

/** Checks ids, which are indices of a list as long as the largest id. @throws ModelFormatError for an invalid one */
function checkIds({ model, added_tokens: added }: Readonly<Record<string, unknown>>): void {
  const { vocab } = Object(model) as { readonly vocab?: unknown };
  const ids = isRecord(vocab) ? vocab : {};
  // Building a list of pairs would take a third of the time of constructing the tokenizer.
  const at = Object.values(ids).findIndex(isInvalidId);
  if (at >= 0) throw refuseId(Object.keys(ids)[at], Object.values(ids)[at]);
  const invalid = Array.isArray(added) ? added.findIndex((token) => isInvalidId(Object(token).id)) : -1;
  if (invalid >= 0) throw refuseId(Object(Object(added)[invalid]).content, Object(Object(added)[invalid]).id);
  const nameless = Array.isArray(added) ? added.find((token) => typeof Object(token).content !== 'string') : undefined;
  if (nameless !== undefined)
    throw new ModelFormatError(
      `tokenizer.json gives the added token ${Object(nameless).id} no text as its content; get the file again`,
    );
}

const isInvalidId = (id: unknown): boolean => !Number.isInteger(id) || Number(id) < 0 || Number(id) >= MAX_TOKENS;

const refuseId = (token: unknown, id: unknown): ModelFormatError =>
  new ModelFormatError(
    `tokenizer.json gives the token ${JSON.stringify(token)} the id ${id}, expected an integer from 0 to ${MAX_TOKENS - 1}; get the file again`,
  );

/** @throws ModelFormatError for a piece without an id */
function toIds({ ids, tokens }: { readonly ids: readonly number[]; readonly tokens: readonly string[] }): Int32Array {
  const unknown = ids.findIndex((id) => !Number.isInteger(id));
  if (unknown >= 0) {
    throw new ModelFormatError(
      `tokenizer.json has no id for the piece ${JSON.stringify(tokens[unknown])} (token ${unknown}) and no unknown token; get the file again`,
    );
  }
  return Int32Array.from(ids);
}

function construct(json: Record<string, unknown>, config: Record<string, unknown>): HuggingFaceTokenizer {
  const tokenizer = new HuggingFaceTokenizer(
    { ...json, pre_tokenizer: withEquivalentSplits(json.pre_tokenizer) },
    config,
  );
  const { model, normalizer, pre_tokenizer: split } = tokenizer;
  if (model !== null) encodeUnknownPieces(model, Object(json.model));
  if (normalizer !== null) tokenizer.normalizer = boundGrowth(normalizer, 'normalizer');
  if (split !== null) tokenizer.pre_tokenizer = boundGrowth(split, 'pre_tokenizer');
  return tokenizer;
}

/**
 * Largest output of one part, in characters: a factor of its input, and a constant. Decompositions need a factor of 18.
 * Later parts need 100 bytes per character.
 */
const [MAX_GROWTH, MIN_LIMIT] = [20, 1024] as const;

/** Bounds the growth of text: consecutive replacements could turn a word into a gigabyte. */
function boundGrowth<Part extends object>(part: Part, name: string): Part {
  const lengthOf = (text: string | readonly string[]) => [text].flat().reduce((sum, { length }) => sum + length, 0);
  return new Proxy(part, {
    apply(callable, self, [text, ...options]) {
      const result = Reflect.apply(callable as () => string | string[], self, [text, ...options]);
      const [before, after] = [lengthOf(text), lengthOf(result)];
      if (after > MAX_GROWTH * before + MIN_LIMIT)
        throw new Error(`its ${name} turns ${before} characters into ${after}`);
      return result;
    },
  });
}

/**
 * Limits the time of all calls of a tokenizer by the number of characters or tokens. Its parts are read when they are
 * first used.
 * @throws ModelFormatError when it fails, or its calls took too long in total.
 */
function withTimeLimit(limitTime: LimitTime): <T>(length: number, action: (attempt: number) => T) => T {
  let leftMs = TIME_LIMIT_MS;
  return (length, action) => {
    leftMs += length * TIME_LIMIT_MS_PER_CHARACTER;
    try {
      const { value, ms } = limitTime(action, leftMs);
      leftMs -= ms;
      return value;
    } catch (cause) {
      const message = `tokenizer.json cannot be used: ${errorMessage(cause)}. Get the file again.`;
      throw new ModelFormatError(message, { cause });
    }
  };
}

function requestsBos({ tokenizer_class: name, add_bos_token: requested }: Readonly<Record<string, unknown>>): boolean {
  return requested === true && typeof name === 'string' && ADD_BOS_CLASSES.has(name.replace(/Fast$/, ''));
}

/** Special tokens are written as a string or as an object with its `content`. */
function tokenContent(token: unknown): string | undefined {
  if (typeof token === 'string') return token;
  return isRecord(token) && typeof token.content === 'string' ? token.content : undefined;
}
