import { tokenBytesOf } from '../calibration/token-bytes.js';
import { OptionError } from '../errors.js';
import { findFallbackTokens } from './fallback-tokens.js';
import { isInCharacterSet } from './is-in-character-set.js';
import { characterSetOf } from './languages.js';
import { createMergeParts } from './merge-parts.js';
import type { TokenizerFile } from './tokenizer-file.js';

/** Which tokens of a vocabulary are to remain. */
export interface TokenSelection {
  /** Languages or scripts whose tokens remain; absent: all. */
  readonly languages?: readonly string[] | undefined;
  /** How many tokens remain; absent: as many as the rest of the selection has. */
  readonly size?: number | undefined;
  /** Ids that remain, in place of languages and rank. */
  readonly listed?: readonly number[] | undefined;
  /** Occurrences of each token in the user's text. */
  readonly textCounts?: ReadonlyMap<number, number> | undefined;
  /** Ids that remain in any case: those that configuration, chat template and graph name. */
  readonly named: ReadonlySet<number>;
  /**
   * Rows of the LM head, and what their number is to be a multiple of: kernels for codes treat the last few columns otherwise, so
   * that their sums differ in the last bit. Default: any number.
   */
  readonly head?: { readonly rows: number; readonly multiple: number } | undefined;
}

/** Tokens that remain, by why they remain; a token counts under the first reason. */
export interface TokenCounts {
  /** Bytes, single characters, special and added tokens, the chat template's, and ids that files name. */
  readonly always: number;
  /** Of the user's text. */
  readonly text: number;
  /** Of the languages, of the list, or by rank. */
  readonly chosen: number;
  /** Parts that the others are merged from, and that nothing else requires. */
  readonly parts: number;
}

/** Tokens of a vocabulary that remain. */
export interface ChosenTokens {
  /** Ids, ascending. */
  readonly keep: Int32Array;
  readonly counts: TokenCounts;
  /** Tokens that were missing in a list and remain all the same. */
  readonly addedToList: number;
  /** Tokens that fill the rows up to a multiple, see `TokenSelection.head`. */
  readonly filledUp: number;
}

/** Reports how many tokens were processed, and yields to the event loop. */
export type ProgressYield = (done: number, total: number) => Promise<void>;

/** Tokens that are processed between two yields. */
const YIELD_INTERVAL = 2048;

/** Text may take this much of what a size leaves to choose; rank is the better guide to other text. */
const SHARE_OF_TEXT = 0.5;

/**
 * Chooses the remaining tokens: what must remain first, then the user's text, then languages in order of merge rank. With each token
 * come those that it is merged from.
 * @throws OptionError for a size that does not hold what must remain, ids without a token, or a selection that leaves nothing
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
  /** Adds tokens in order while there is room, and tells how many of them are new. */
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
  if (listed !== undefined) checkIds(listed, contents);
  const always = await addAll([...fallbacks, ...named], Number.POSITIVE_INFINITY);
  if (tokens.size > limit)
    throw new OptionError(
      `vocabularySize is ${limit}, and ${tokens.size} tokens must stay: bytes or single characters, special and added tokens, those of the chat template and of the configuration, and what they are merged from; give at least ${tokens.size}`,
      { option: 'vocabularySize' },
    );
  const wanted = new Set(listed);
  const addedToList = listed === undefined ? 0 : [...tokens].filter((id) => !wanted.has(id)).length;
  const mostOfText = Number.isFinite(limit) ? tokens.size + Math.floor((limit - tokens.size) * SHARE_OF_TEXT) : limit;
  const text = await addAll(byFrequency(textCounts), mostOfText);
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

function checkIds(ids: readonly number[], contents: TokenizerFile['contents']): void {
  const invalid = ids.find((id) => !Number.isInteger(id) || contents[id] === undefined);
  if (invalid !== undefined)
    throw new OptionError(
      `vocabulary names the id ${invalid}, which no token of tokenizer.json has; expected ids from 0 to ${contents.length - 1}`,
      { option: 'vocabulary' },
    );
}

/** The commonest first; of equals, the lower id. */
function byFrequency(textCounts: TokenSelection['textCounts']): readonly number[] {
  return [...(textCounts ?? [])].sort(([a, many], [b, more]) => more - many || a - b).map(([id]) => id);
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

/** By the rank of the first merge that makes a token, then by id. */
function byRank({ merges }: TokenizerFile, ids: number[]): readonly number[] {
  const rankOf = new Map<number, number>();
  for (const [rank, { result }] of merges.entries()) if (!rankOf.has(result)) rankOf.set(result, rank);
  const last = Number.MAX_SAFE_INTEGER;
  return ids.sort((a, b) => (rankOf.get(a) ?? last) - (rankOf.get(b) ?? last) || a - b);
}
