import type { LanguageModel } from '../../src/evaluation/language-model.js';

/** A model over V tokens whose logits are a function of what it has read; counts what it is asked. */
export function createFakeModel(vocabularySize: number, logitsOf: (seen: readonly number[]) => readonly number[]) {
  const calls: { readonly sequences: readonly Int32Array[]; readonly firstScored: number }[] = [];
  const model: LanguageModel = {
    vocabularySize,
    hasCache: true,
    async score(sequences, firstScored) {
      calls.push({ sequences, firstScored });
      return Float32Array.from(
        sequences.flatMap((sequence) =>
          Array.from(sequence.subarray(firstScored), (token, at) =>
            crossEntropy(logitsOf([...sequence.subarray(0, firstScored + at)]), token),
          ),
        ),
      );
    },
    scoreContinuations: async (context, continuations) =>
      continuations.map((continuation) =>
        Float32Array.from(continuation, (token, at) =>
          crossEntropy(logitsOf([...context, ...continuation.subarray(0, at)]), token),
        ),
      ),
    createReader() {
      const seen: number[][] = [];
      return {
        async read(tokens) {
          for (const [index, part] of tokens.entries()) seen[index] = [...(seen[index] ?? []), ...part];
          return Float32Array.from(seen.flatMap(logitsOf));
        },
      };
    },
    release: async () => {},
  };
  return { model, calls };
}

function crossEntropy(logits: readonly number[], token: number): number {
  return Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0)) - logits[token]!;
}
