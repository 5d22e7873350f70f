import { isRecord } from '../parse-json.js';

type Json = Readonly<Record<string, unknown>>;

/** Word characters of the pre-tokenizer `Whitespace`: Rust's \w, written out because Oniguruma's has ² and ½ too. */
const WORD = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\u200c\\u200d';

/** Punctuation of Unicode, and all ASCII signs. */
const PUNCTUATION = '[\\p{P}!-\\/:-@\\[-`\\{-~]';

/**
 * Replaces pre-tokenizers that `@huggingface/tokenizers` 0.2.0 reads otherwise than `tokenizers` by splits on which both agree.
 * The former knows of \w in `Whitespace` only ASCII, of digits only 0 to 9 (in Rust ½, ² and Ⅳ are numeric), takes
 * punctuation as contiguous, and isolates matches whatever the behavior is, or removes all else if `invert` is true.
 */
export function withEquivalentSplits(preTokenizer: unknown): unknown {
  if (!isRecord(preTokenizer)) return preTokenizer;
  const { type, pretokenizers, behavior, individual_digits: individual, delimiter } = preTokenizer;
  switch (type) {
    case 'Sequence':
      return Array.isArray(pretokenizers)
        ? { ...preTokenizer, pretokenizers: pretokenizers.map(withEquivalentSplits) }
        : preTokenizer;
    case 'Digits':
      return split(individual === true ? '\\p{N}' : '\\p{N}+', 'Isolated');
    case 'Whitespace':
      return split(`[${WORD}]+|[^${WORD}\\s]+`, 'Removed', true);
    case 'Punctuation':
      return equivalentSplit(split(PUNCTUATION, String(behavior ?? 'Isolated')));
    case 'CharDelimiterSplit':
      return equivalentSplit(split(escapePattern(String(delimiter)), 'Removed'));
    case 'Split':
      return equivalentSplit(preTokenizer);
    default:
      return preTokenizer;
  }
}

const split = (regex: string, behavior: string, invert = false): Json => ({
  type: 'Split',
  pattern: { Regex: regex },
  behavior,
  invert,
});

/** A gap between two matches ends before a match, so it merges with a match after it as that one does with the gap before. */
const INVERTED: Readonly<Record<string, string>> = {
  mergedwithprevious: 'mergedwithnext',
  mergedwithnext: 'mergedwithprevious',
};

function equivalentSplit(given: Json): Json {
  const { pattern, invert } = given;
  const { Regex: regex, String: text } = Object(pattern) as { readonly Regex?: unknown; readonly String?: unknown };
  const source = typeof regex === 'string' ? regex : typeof text === 'string' ? escapePattern(text) : undefined;
  if (source === undefined) return given;
  const behavior = String(given.behavior ?? '')
    .replaceAll('_', '')
    .toLowerCase();
  const [match, other] = [`(?:${source})`, `(?:(?!${source})[\\s\\S])`];
  switch (invert === true ? (INVERTED[behavior] ?? behavior) : behavior) {
    case 'removed':
      return invert === true ? given : split(source, 'Removed');
    case 'contiguous':
      return split(`${match}+`, 'Isolated');
    case 'mergedwithprevious':
      return split(`[\\s\\S]*?${match}|[\\s\\S]+`, 'Isolated');
    case 'mergedwithnext':
      return split(`${match}${other}*|${other}+`, 'Isolated');
    default:
      return invert === true ? { ...given, invert: false } : given;
  }
}

const escapePattern = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
