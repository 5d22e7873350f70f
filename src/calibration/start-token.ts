import { OptionError } from '../errors.js';
import { findLeadingTokens } from './leading-tokens.js';
import type { Tokenizer } from './tokenizer.js';

/** Configuration and tokenizer of a model. */
export interface TokenHints {
  /** `generation_config.json`, `config.json` and the `model` of `genai_config.json`, if they exist, in order of precedence. */
  readonly configs: readonly Readonly<Record<string, unknown>>[];
  readonly tokenizer?: Tokenizer | undefined;
  /** Ids must be smaller. */
  readonly vocabularySize?: number | undefined;
}

/** Usual name of the token between two documents of the training text. */
const END_OF_TEXT = '<|endoftext|>';

/**
 * Token that generated documents begin with: the tokenizer's leading token, else `<|endoftext|>` if the tokenizer has it
 * (chat models often begin a turn with BOS), else BOS, else EOS. Of a list, the first id.
 */
export function findStartToken(hints: TokenHints): number | undefined {
  return candidates(hints).find((id) => isToken(id, hints));
}

/** The start token. @throws OptionError when there is none. */
export function requireStartToken(hints: TokenHints): number {
  const found = findStartToken(hints);
  if (found !== undefined) return found;
  const ids = candidates(hints).filter((id) => id !== undefined);
  const reason =
    ids.length > 0
      ? `${ids.join(', ')} are outside its vocabulary of ${hints.vocabularySize}`
      : `no ${END_OF_TEXT} in the tokenizer, no bos_token_id and no eos_token_id in the configuration`;
  throw new OptionError(
    `found no start token for generated text: ${reason}; set calibration.generate.startToken (--start-token), or calibrate on a text alone`,
  );
}

function candidates(hints: TokenHints): readonly unknown[] {
  const { tokenizer } = hints;
  return [
    findLeadingTokens(tokenizer).at(-1),
    endOfText(tokenizer),
    ...configured(hints, 'bos_token_id'),
    tokenizer?.bosTokenId,
    ...configured(hints, 'eos_token_id'),
    tokenizer?.eosTokenId,
  ];
}

/** Tokens that end a document, ascending; may be empty. */
export function findEndTokens(hints: TokenHints): readonly number[] {
  const ids = [endOfText(hints.tokenizer), ...configured(hints, 'eos_token_id'), hints.tokenizer?.eosTokenId];
  return [...new Set(ids)].filter((id) => isToken(id, hints)).sort((a, b) => a - b);
}

/** Ids under one key of all configs; a value may be an id, a list of ids or null. */
function configured({ configs }: TokenHints, key: string): unknown[] {
  return configs.flatMap((config) => config[key] ?? []);
}

function endOfText(tokenizer: Tokenizer | undefined): number | undefined {
  const ids = tokenizer?.encode(END_OF_TEXT) ?? [];
  // A tokenizer without it may encode the text as one unknown token.
  return ids.length === 1 && tokenizer?.decode(ids) === END_OF_TEXT ? ids[0] : undefined;
}

function isToken(id: unknown, { vocabularySize = Number.POSITIVE_INFINITY }: TokenHints): id is number {
  return Number.isInteger(id) && Number(id) >= 0 && Number(id) < vocabularySize;
}
