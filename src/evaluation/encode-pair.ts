import { joinTokens } from '../calibration/encode-pieces.js';
import { findLeadingTokens } from '../calibration/leading-tokens.js';
import type { Tokenizer } from '../calibration/tokenizer.js';
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
 * both are encoded together, and the continuation's tokens are those after the context's own. An empty context with
 * nothing before it is the token that starts (or, without one, ends) a text.
 *
 * @throws OptionError when no tokens are left for the continuation, or nothing can stand for an empty context.
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
      `the continuation ${JSON.stringify(pair.continuation)} has no tokens of its own after its context; the tokenizer merges them`,
    );
  }
  const begun = joinTokens([leading, head]);
  const started = begun.length === 0 ? startOfText(tokenizer) : begun;
  return { leadingCount: leading.length, context: started, continuation: tail };
}

function startOfText({ bosTokenId, eosTokenId }: Tokenizer): Int32Array {
  const start = bosTokenId ?? eosTokenId;
  if (start === undefined) {
    throw new OptionError(
      'the context is empty, and the tokenizer has no BOS or EOS token to stand for it; give a context',
    );
  }
  return Int32Array.of(start);
}
