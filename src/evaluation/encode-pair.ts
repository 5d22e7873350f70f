import { findLeadingTokens } from '../calibration/leading-tokens.js';
import type { Tokenizer } from '../calibration/tokenizer.js';
import { concatenate } from '../concatenate.js';
import { OptionError } from '../errors.js';

/** A context and the continuation that is scored. */
export interface TextPair {
  readonly context: string;
  readonly continuation: string;
}

/** A pair as tokens; `context` has at least one. */
export interface EncodedPair {
  /** Tokens of the context that the tokenizer puts before every text. */
  readonly leadingCount: number;
  readonly context: Int32Array;
  readonly continuation: Int32Array;
}

/**
 * Encodes context and continuation as lm-evaluation-harness does: spaces that end the context move to the continuation,
 * both are encoded together, and the continuation's tokens are those after the tokens of the context alone. An empty
 * context without leading tokens becomes BOS, or EOS for a tokenizer without BOS.
 *
 * @throws OptionError when no tokens are left for the continuation, or for an empty context without BOS and EOS.
 * @see https://github.com/EleutherAI/lm-evaluation-harness `_encode_pair`
 */
export function encodePair(tokenizer: Tokenizer, pair: TextPair, addSpecialTokens = true): EncodedPair {
  const context = pair.context.trimEnd();
  const continuation = pair.context.slice(context.length) + pair.continuation;
  const leading = addSpecialTokens ? findLeadingTokens(tokenizer) : [];
  const whole = tokenizer.encode(context + continuation);
  const head = tokenizer.encode(context);
  const tail = whole.slice(head.length);
  if (tail.length === 0) {
    throw new OptionError(
      `the continuation ${JSON.stringify(pair.continuation)} has no tokens after those of its context; the tokenizer merges them`,
    );
  }
  const prefixed = concatenate(Int32Array, [leading, head]);
  return {
    leadingCount: leading.length,
    context: prefixed.length === 0 ? startOfText(tokenizer) : prefixed,
    continuation: tail,
  };
}

function startOfText({ bosTokenId, eosTokenId }: Tokenizer): Int32Array {
  const start = bosTokenId ?? eosTokenId;
  if (start === undefined) {
    throw new OptionError(
      'the context is empty, and the tokenizer has no BOS or EOS token to use instead; give a context',
    );
  }
  return Int32Array.of(start);
}
