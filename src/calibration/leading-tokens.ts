import type { Tokenizer } from './tokenizer.js';

/** An arbitrary text: a post-processor adds the same tokens to every text. */
const SAMPLE = 'a';

/** Tokens that a tokenizer's post-processor puts before a text, such as a BOS token; empty if it adds none. */
export function findLeadingTokens(tokenizer: Tokenizer | undefined): readonly number[] {
  if (tokenizer === undefined) return [];
  const [plain, processed] = [false, true].map((addSpecialTokens) => tokenizer.encode(SAMPLE, { addSpecialTokens }));
  const added = processed!.length - plain!.length;
  // A post-processor may add tokens after the text too.
  for (let start = 0; start <= added; start++)
    if (plain!.every((id, at) => processed![start + at] === id)) return [...processed!.subarray(0, start)];
  return [];
}

/** Whether tokens begin with others at a position. */
export function beginsWith(tokens: ArrayLike<number>, leading: readonly number[], at = 0): boolean {
  return leading.every((id, index) => tokens[at + index] === id);
}

/** A tokenizer that never adds special tokens. */
export function withoutSpecialTokens(tokenizer: Tokenizer): Tokenizer {
  return { ...tokenizer, encode: (text, { enough } = {}) => tokenizer.encode(text, { enough }) };
}
