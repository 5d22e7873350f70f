import { NumericalError } from '../errors.js';
import { sum } from '../linalg/sum.js';
import type { JobControl } from '../progress.js';
import type { Bundle } from './bundle.js';
import { type EncodingOptions, encodeText } from './encode-item.js';
import type { TextPair } from './encode-pair.js';
import type { LanguageModel } from './language-model.js';

export type LogLikelihoodOptions = Omit<EncodingOptions, 'delimiter'> & JobControl;

/** Log-likelihood of a continuation. */
export interface LogLikelihood {
  /** ln p(continuation | context), in nats. */
  readonly logLikelihood: number;
  /** Whether greedy decoding would generate the continuation. */
  readonly isGreedy: boolean;
  /** Tokens of the continuation. */
  readonly tokenCount: number;
}

/**
 * Log-likelihoods of continuations after their contexts, as lm-evaluation-harness's request of that name: nothing is
 * inserted between the two, so that a continuation includes its leading space. Pairs of one context are read together.
 *
 * @returns In the order of the pairs.
 * @throws OptionError for a pair that cannot be encoded, naming its position; NumericalError, EngineError.
 */
export async function measureLogLikelihoods(
  model: LanguageModel,
  pairs: readonly TextPair[],
  options: LogLikelihoodOptions,
): Promise<LogLikelihood[]> {
  const groups = [...groupByContext(pairs).values()];
  const results = new Array<LogLikelihood>(pairs.length);
  let done = 0;
  for await (const batch of model.scoreBundles(encodeGroups(pairs, groups, options))) {
    for (const { index, sequences } of batch) {
      for (const [at, { nll, isGreedy }] of sequences.entries()) {
        const place = groups[index]![at]!;
        const logLikelihood = -sum(nll);
        if (!Number.isFinite(logLikelihood)) {
          throw new NumericalError(
            `pair ${place}: the log-likelihood is ${logLikelihood}; check the model's weights, or run it in float32`,
          );
        }
        results[place] = { logLikelihood, isGreedy, tokenCount: nll.length };
        done++;
      }
    }
    options.onProgress?.({ stage: 'log-likelihood', done, total: pairs.length });
    options.signal?.throwIfAborted();
  }
  return results;
}

/** Positions of the pairs of each context. */
function groupByContext(pairs: readonly TextPair[]): Map<string, number[]> {
  const groups = new Map<string, number[]>();
  for (const [place, { context }] of pairs.entries()) groups.set(context, [...(groups.get(context) ?? []), place]);
  return groups;
}

function* encodeGroups(
  pairs: readonly TextPair[],
  groups: readonly (readonly number[])[],
  options: LogLikelihoodOptions,
): Generator<Bundle> {
  for (const group of groups) yield group.map((place) => encodeText(pairs[place]!, `pair ${place}`, options));
}
