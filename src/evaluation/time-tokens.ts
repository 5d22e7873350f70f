import type { LanguageModel, Reader } from './language-model.js';

/** Tokens that are read, and written after them one by one. */
export interface TimedTokens {
  readonly promptLength: number;
  readonly newTokens: number;
}

/** Reads a prompt on the clock, in ms. */
export async function timePrompt(
  model: LanguageModel,
  promptLength: number,
): Promise<{ readonly reader: Reader; readonly ms: number }> {
  const reader = model.createReader();
  const prompt = arbitraryTokens(model, promptLength);
  const start = performance.now();
  await reader.read([prompt]);
  return { reader, ms: performance.now() - start };
}

/** Reads a prompt, and then on the clock one token after the other, in ms. */
export async function timeWriting(model: LanguageModel, { promptLength, newTokens }: TimedTokens): Promise<number> {
  const { reader } = await timePrompt(model, promptLength);
  const start = performance.now();
  for (const token of arbitraryTokens(model, newTokens)) await reader.read([Int32Array.of(token)]);
  return performance.now() - start;
}

/** Tokens that every vocabulary has; what they say does not change how long it takes. */
function arbitraryTokens({ vocabularySize = 256 }: LanguageModel, count: number): Int32Array {
  const size = Math.min(vocabularySize, 32_000);
  return Int32Array.from({ length: count }, (_, at) => (at * 7919 + 11) % size);
}
