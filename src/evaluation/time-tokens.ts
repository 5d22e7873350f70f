import type { LanguageModel, Reader } from './language-model.js';

/** Prompt tokens, and tokens generated after them. */
export interface TimedTokens {
  readonly promptLength: number;
  readonly newTokens: number;
}

/** Times reading a prompt, in ms. */
export async function timePrefill(
  model: LanguageModel,
  promptLength: number,
): Promise<{ readonly reader: Reader; readonly ms: number }> {
  const reader = model.createReader();
  const prompt = arbitraryTokens(model, promptLength);
  const start = performance.now();
  await reader.read([prompt]);
  return { reader, ms: performance.now() - start };
}

/** Reads a prompt, then times generating token by token, in ms. */
export async function timeDecode(model: LanguageModel, { promptLength, newTokens }: TimedTokens): Promise<number> {
  const { reader } = await timePrefill(model, promptLength);
  const start = performance.now();
  for (const token of arbitraryTokens(model, newTokens)) await reader.read([Int32Array.of(token)]);
  return performance.now() - start;
}

/** Valid token ids of the vocabulary; the time does not depend on them. */
function arbitraryTokens({ vocabularySize = 256 }: LanguageModel, count: number): Int32Array {
  const size = Math.min(vocabularySize, 32_000);
  return Int32Array.from({ length: count }, (_, at) => (at * 7919 + 11) % size);
}
