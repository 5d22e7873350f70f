import type { ScoredSequence, SequenceScore } from '../../src/evaluation/bundle.js';
import type { LanguageModel } from '../../src/evaluation/language-model.js';

/** A model whose logits are a function of the tokens read so far; records the calls of `score`. */
export function createFakeModel(vocabularySize: number, logitsOf: (seen: readonly number[]) => readonly number[]) {
  const calls: { readonly sequences: readonly Int32Array[]; readonly firstScored: number }[] = [];
  const scoreSequence = ({ tokens, firstScored }: ScoredSequence): SequenceScore => {
    const steps = Array.from(tokens.subarray(firstScored), (token, at) => ({
      token,
      logits: logitsOf([...tokens.subarray(0, firstScored + at)]),
    }));
    return {
      nll: Float32Array.from(steps, ({ logits, token }) => crossEntropy(logits, token)),
      isGreedy: steps.every(({ logits, token }) => logits.indexOf(Math.max(...logits)) === token),
    };
  };
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
    async readLogits(sequences) {
      const rows = sequences.flatMap((tokens) =>
        Array.from(tokens, (_, at) => logitsOf([...tokens.subarray(0, at + 1)])),
      );
      const dims = [sequences.length, sequences[0]?.length ?? 0, vocabularySize];
      return { type: 'float32', dims, data: Float32Array.from(rows.flat()) };
    },
    async *scoreBundles(bundles, isKnown = () => false) {
      let index = 0;
      for await (const bundle of bundles) {
        if (!isKnown(index)) yield [{ index, sequences: bundle.map(scoreSequence) }];
        index++;
      }
    },
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
