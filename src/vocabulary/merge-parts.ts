import { byteToken } from '../calibration/token-bytes.js';
import type { TokenizerFile } from './tokenizer-file.js';

/** More ids than any vocabulary has: pairs of ids become one number. */
const PAIR = 2 ** 24;

/**
 * Which tokens BPE goes through on its way to a token: the characters that it begins with and every result of a merge.
 *
 * What is inside a token is merged as if it were on its own, since no merge crosses the border of a token that remains to the end. So a
 * text keeps its tokens where all of them keep these parts, whatever other merges go.
 *
 * @returns parts of a token without itself; none for a token that merges never make
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
  const beginOf = (content: string): number[] | undefined => {
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
    const symbols = content === undefined ? undefined : beginOf(content);
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

/** Place of the pair that is merged first; -1 where none is. */
function bestPair(symbols: readonly number[], ranks: ReadonlyMap<number, number>): number {
  let [best, place] = [Number.POSITIVE_INFINITY, -1];
  for (let at = 0; at + 1 < symbols.length; at += 1) {
    const rank = ranks.get(symbols[at]! * PAIR + symbols[at + 1]!);
    if (rank !== undefined && rank < best) [best, place] = [rank, at];
  }
  return place;
}
