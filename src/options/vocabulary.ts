import { either, integer, listOf, text } from './kinds.js';
import { type AnyRows, type OptionsOf, row } from './option.js';
import { fileList } from './texts.js';

const token = either(
  text('a token', () => true),
  integer(0),
);

export const VOCABULARY = {
  /** Languages by ISO 639 code, such as `en`, `code` for ASCII only, or Unicode scripts, such as `Cyrillic`. Default: all. */
  keepLanguages: row('--keep-languages <names>', 'languages (en,de), code, or scripts (Cyrillic) whose tokens remain', {
    kind: listOf(text('a language such as en, or a script such as Cyrillic'), 'a list of languages', 'names'),
    otherwise: 'all',
    common: true,
  }),
  /** Number of remaining tokens, special ones included, by merge rank. Default: all tokens of the languages. */
  vocabularySize: row('--vocabulary-size <tokens>', 'remaining tokens, by merge rank', {
    kind: integer(1),
    otherwise: 'all of the languages',
    common: true,
  }),
  /**
   * The remaining tokens: a list of tokens or ids, a text file with a token per line, a JSON file with such a list, or
   * `fang-prune-vocabulary.json` of an earlier result. Default: none.
   */
  vocabulary: row('--vocabulary <file>', 'file with the remaining tokens, one per line or as JSON', {
    kind: {
      ...either(text('a path'), listOf(token, 'a list of tokens and ids', 'texts')),
      expected: 'a path, or a list of tokens and ids',
      typed: 'a path',
    },
    otherwise: 'none',
    common: true,
  }),
  /** Text files whose tokens also remain, the most frequent first; at most half of `vocabularySize`. Default: none. */
  texts: row('-t, --text <file>', 'text whose tokens also remain, .txt or .jsonl; may be repeated', {
    kind: fileList,
    otherwise: 'none',
    common: true,
  }),
} as const satisfies AnyRows;

/** Selection of the remaining tokens. */
export interface VocabularyOptions extends OptionsOf<typeof VOCABULARY> {}
