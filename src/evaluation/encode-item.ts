import type { Tokenizer } from '../calibration/tokenizer.js';
import { concatenate } from '../concatenate.js';
import { OptionError } from '../errors.js';
import type { Bundle, ScoredSequence } from './bundle.js';
import { type EncodedPair, encodePair, type TextPair } from './encode-pair.js';
import type { TaskItem, TaskKind } from './task-items.js';

export interface EncodingOptions {
  readonly tokenizer: Tokenizer;
  /**
   * Put between context and continuation, as lm-evaluation-harness's `target_delimiter`; before a last word only where
   * neither side has white space. Default one space.
   */
  readonly delimiter?: string | undefined;
  /** Whether contexts begin with the tokenizer's leading tokens, such as BOS. Default true. */
  readonly addSpecialTokens?: boolean | undefined;
  /** Longest token sequence the model can read; contexts are cut after their leading tokens. Default: no limit. */
  readonly contextLength?: number | undefined;
}

/** Encodes an item's candidates. @throws OptionError naming the item when one cannot be encoded. */
export function encodeItem({ kind, place, candidates }: TaskItem, options: EncodingOptions): Bundle {
  const { delimiter = ' ' } = options;
  return candidates.map(({ context, continuation }) =>
    encodeText({ context, continuation: JOINS[kind](context, continuation, delimiter) }, place, options),
  );
}

/** Encodes a pair, which already includes its delimiter, as one token sequence. @throws OptionError naming `place`. */
export function encodeText(
  pair: TextPair,
  place: string,
  { tokenizer, addSpecialTokens, contextLength = Number.POSITIVE_INFINITY }: Omit<EncodingOptions, 'delimiter'>,
): ScoredSequence {
  try {
    return toSequence(encodePair(tokenizer, pair, addSpecialTokens), contextLength);
  } catch (cause) {
    if (cause instanceof OptionError) throw new OptionError(`${place}: ${cause.message}`, { cause });
    throw cause;
  }
}

/** Adds the delimiter to a continuation. */
const JOINS: Readonly<Record<TaskKind, (context: string, continuation: string, delimiter: string) => string>> = {
  'multiple-choice': (_, continuation, delimiter) => delimiter + continuation,
  // The harness's last-word tasks include the space; files without it would score half a word.
  'last-word': (context, target, delimiter) => (/\s$/.test(context) || /^\s/.test(target) ? '' : delimiter) + target,
};

/** The model reads all tokens but the last, so one more than it can read may be scored. */
function toSequence({ leadingCount, context, continuation }: EncodedPair, contextLength: number): ScoredSequence {
  const room = contextLength + 1 - continuation.length;
  if (room < 1) {
    throw new OptionError(
      `a continuation has ${continuation.length} tokens, and the model reads ${contextLength}; shorten it`,
    );
  }
  const fitting = context.length > room ? cutContext(context, leadingCount, room) : context;
  return { tokens: concatenate(Int32Array, [fitting, continuation]), firstScored: fitting.length };
}

/** The end of a context after its leading tokens, or without those where both do not fit. */
function cutContext(context: Int32Array, leadingCount: number, room: number): Int32Array {
  const leading = leadingCount < room ? context.subarray(0, leadingCount) : [];
  return concatenate(Int32Array, [leading, context.subarray(context.length - room + leading.length)]);
}
