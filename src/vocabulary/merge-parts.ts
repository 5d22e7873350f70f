import { byteToken } from '../calibration/token-bytes.js';
import type { TokenizerFile } from './tokenizer-file.js';

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
export function createMergeParts({
  kind,
  merges,
  modelIds,
  contents,
}: Pick<TokenizerFile, 'kind' | 'merges' | 'modelIds' | 'contents'>): (id: number) => ReadonlySet<number> {
  const ranks = new Map<number, number>();
  for (const [rank, { left, right }] of merges.entries()) {
    const pair = left * PAIR + right;
    if (!ranks.has(pair)) ranks.set(pair, rank);
  }
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
