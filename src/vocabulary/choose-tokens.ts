import { byteToken, tokenBytesOf } from '../calibration/token-bytes.js';
import { OptionError } from '../errors.js';
import { findFallbackTokens } from './fallback-tokens.js';
import { isInCharacterSet } from './is-in-character-set.js';
import { characterSetOf } from './languages.js';
import type { TokenizerFile } from './tokenizer-file.js';

/** Selection of the remaining tokens of a vocabulary. */
export interface TokenSelection {
  /** Languages or scripts whose tokens remain; absent: all. */
  readonly languages?: readonly string[] | undefined;
  /** Number of remaining tokens; absent: all tokens of the selection. */
  readonly size?: number | undefined;
  /** Remaining ids, instead of languages and rank. */
  readonly listed?: readonly number[] | undefined;
  /** Occurrences of each token in the user's text. */
  readonly textCounts?: ReadonlyMap<number, number> | undefined;
  /** Ids that always remain: those in configuration, chat template and graph. */
  readonly named: ReadonlySet<number>;
  /**
   * Rows of the LM head, and a factor of their new number: kernels for codes compute the last few columns differently, with
   * other last bits. Default: any number.
   */
  readonly head?: { readonly rows: number; readonly multiple: number } | undefined;
}

/** Numbers of remaining tokens by reason; a token counts for its first reason. */
export interface TokenCounts {
  /** Bytes, single characters, special and added tokens, those of the chat template, and ids in files. */
  readonly always: number;
  /** Tokens of the user's text. */
  readonly text: number;
  /** Tokens of the languages, of the list, or by rank. */
  readonly chosen: number;
  /** Tokens that only remain because others are merged from them. */
  readonly parts: number;
}

/** Tokens of a vocabulary that remain. */
export interface ChosenTokens {
  /** Ids, ascending. */
  readonly keep: Int32Array;
  readonly counts: TokenCounts;
  /** Tokens that are missing in a list, and always remain. */
  readonly addedToList: number;
  /** Tokens added to reach a multiple of rows, see `TokenSelection.head`. */
  readonly filledUp: number;
}

/** Reports how many tokens were processed, and yields to the event loop. */
export type ProgressYield = (done: number, total: number) => Promise<void>;

/** Tokens that are processed between two yields. */
const YIELD_INTERVAL = 2048;

/** Largest share of the user's text in the tokens to choose; rank is a better guide to other text. */
const TEXT_SHARE = 0.5;

/**
 * Chooses the remaining tokens: first those that always remain, then those of the user's text, then those of the languages by
 * merge rank. The tokens that a token is merged from remain with it.
 * @throws OptionError for a size below the tokens that always remain, or ids without a token
 */
export async function chooseTokens(
  file: TokenizerFile,
  selection: TokenSelection,
  yieldProgress: ProgressYield = async () => {},
): Promise<ChosenTokens> {
  const { contents } = file;
  const partsOf = createMergeParts(file);
  const tokens = new Set<number>();
  const limit = selection.size ?? Number.POSITIVE_INFINITY;
  let parts = 0;
  /** Adds tokens in order up to a total number. @returns Number of added tokens, without their parts. */
  const addAll = async (ids: readonly number[], most = limit): Promise<number> => {
    let count = 0;
    for (const [at, id] of ids.entries()) {
      if (at % YIELD_INTERVAL === 0) await yieldProgress(ids.length + at, 2 * ids.length);
      if (tokens.has(id) || tokens.size >= most) continue;
      const missing = [...partsOf(id)].filter((part) => !tokens.has(part));
      if (tokens.size + missing.length + 1 > most) continue;
      for (const part of missing) tokens.add(part);
      tokens.add(id);
      parts += missing.length;
      count += 1;
    }
    return count;
  };
  const fallbacks = findFallbackTokens(file);
  const { listed, named, textCounts } = selection;
  if (listed !== undefined) checkIds(listed, contents, named);
  const always = await addAll([...fallbacks, ...named], Number.POSITIVE_INFINITY);
  if (tokens.size > limit)
    throw new OptionError(
      `vocabularySize is ${limit}, and ${tokens.size} tokens always remain: bytes or single characters, special and added tokens, those of the chat template and of the configuration, and those that they are merged from; give at least ${tokens.size}`,
      { option: 'vocabularySize' },
    );
  const inList = new Set(listed);
  const addedToList = listed === undefined ? 0 : [...tokens].filter((id) => !inList.has(id)).length;
  const textLimit = Number.isFinite(limit) ? tokens.size + Math.floor((limit - tokens.size) * TEXT_SHARE) : limit;
  const text = await addAll(byFrequency(textCounts), textLimit);
  const candidates = listed ?? (await candidatesOf(file, selection, yieldProgress));
  const chosen = await addAll(candidates);
  const { rows = 0, multiple = 1 } = selection.head ?? {};
  const over = [...tokens].filter((id) => id < rows).length % multiple;
  const target = tokens.size + ((multiple - over) % multiple);
  const filledUp = tokens.size === target ? 0 : await addAll(byRank(file, [...file.modelIds.values()]), target);
  return {
    keep: Int32Array.from(tokens).sort(),
    counts: { always, text, chosen, parts },
    addedToList,
    filledUp,
  };
}

/** An id in the configuration may be that of a row without a token; lists of earlier results name it too. */
function checkIds(ids: readonly number[], contents: TokenizerFile['contents'], named: TokenSelection['named']): void {
  const invalid = ids.find((id) => !named.has(id) && (!Number.isInteger(id) || contents[id] === undefined));
  if (invalid !== undefined)
    throw new OptionError(
      `vocabulary names the id ${invalid}, which no token of tokenizer.json has; expected ids from 0 to ${contents.length - 1}`,
      { option: 'vocabulary' },
    );
}

/** By descending count; ties by ascending id. */
function byFrequency(textCounts: TokenSelection['textCounts']): readonly number[] {
  return [...(textCounts ?? [])].sort(([a, count], [b, otherCount]) => otherCount - count || a - b).map(([id]) => id);
}

/** Tokens of the languages, by rank. */
async function candidatesOf(
  file: TokenizerFile,
  { languages, size }: TokenSelection,
  yieldProgress: ProgressYield,
): Promise<readonly number[]> {
  const { json, contents, modelIds } = file;
  if (languages === undefined && size === undefined) return [];
  const bytesOf = tokenBytesOf(json);
  const characters = languages === undefined ? undefined : characterSetOf(languages);
  const all = [...modelIds.values()];
  const ids: number[] = [];
  for (const [at, id] of all.entries()) {
    if (at % YIELD_INTERVAL === 0) await yieldProgress(at, 2 * all.length);
    if (characters === undefined || isInCharacterSet(bytesOf(contents[id]!), characters)) ids.push(id);
  }
  return byRank(file, ids);
}

/** By the rank of the first merge to a token, then by id. */
function byRank({ merges }: TokenizerFile, ids: number[]): readonly number[] {
  const rankOf = new Map<number, number>();
  for (const [rank, { result }] of merges.entries()) if (!rankOf.has(result)) rankOf.set(result, rank);
  const last = Number.MAX_SAFE_INTEGER;
  return ids.sort((a, b) => (rankOf.get(a) ?? last) - (rankOf.get(b) ?? last) || a - b);
}

/** Above the size of any vocabulary; combines two ids to a number. */
const PAIR = 2 ** 24;

/**
 * Creates a function from a token to its parts: the tokens that BPE passes through before it, which are its characters and all
 * results of merges.
 *
 * The merges inside a token do not depend on its context, since no merge crosses the border of a final token. So texts of
 * remaining tokens keep their tokens if all parts remain, no matter which other merges are removed.
 *
 * @returns parts of a token without itself; empty for a token that is no result of merges
 */
function createMergeParts({
  kind,
  merges,
  modelIds,
  contents,
}: Pick<TokenizerFile, 'kind' | 'merges' | 'modelIds' | 'contents'>): (id: number) => ReadonlySet<number> {
  const ranks = new Map<number, number>();
  // As in `tokenizers`, a merge that is listed twice has its last rank.
  for (const [rank, { left, right }] of merges.entries()) ranks.set(left * PAIR + right, rank);
  const symbolsOf = (content: string): number[] | undefined => {
    const symbols: number[] = [];
    for (const character of content) {
      const id = modelIds.get(character);
      if (id !== undefined) symbols.push(id);
      else if (kind !== 'BPE with byte fallback') return undefined;
      else for (const byte of new TextEncoder().encode(character)) symbols.push(modelIds.get(byteToken(byte))!);
    }
    return symbols;
  };
  return (id) => {
    const content = contents[id];
    const symbols = content === undefined ? undefined : symbolsOf(content);
    if (symbols === undefined || merges.length === 0) return NONE;
    const parts = new Set(symbols);
    while (symbols.length > 1) {
      const at = bestPair(symbols, ranks);
      if (at < 0) break;
      const { result } = merges[ranks.get(symbols[at]! * PAIR + symbols[at + 1]!)!]!;
      symbols.splice(at, 2, result);
      parts.add(result);
    }
    if (symbols.length !== 1 || symbols[0] !== id) return NONE;
    parts.delete(id);
    return parts;
  };
}

const NONE: ReadonlySet<number> = new Set();

/** Position of the pair that is merged first; -1 if there is none. */
function bestPair(symbols: readonly number[], ranks: ReadonlyMap<number, number>): number {
  let [best, place] = [Number.POSITIVE_INFINITY, -1];
  for (let at = 0; at + 1 < symbols.length; at += 1) {
    const rank = ranks.get(symbols[at]! * PAIR + symbols[at + 1]!);
    if (rank !== undefined && rank < best) [best, place] = [rank, at];
  }
  return place;
}
