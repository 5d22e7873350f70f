import { anyText, boolean, integer, listOf, text } from './kinds.js';
import { type AnyRows, type OptionsOf, refusal, row } from './option.js';

export const fileList = listOf(text('a path'), 'a list of paths, such as ["test.txt"]', 'texts');

export const TEXT_WINDOWS = {
  /** Tokens per window, at least 2 and at most the text's length and the models' context length. Default 512, or less if those are shorter. */
  windowLength: row('--window-length <tokens>', 'tokens per window', {
    kind: integer(2),
    otherwise: '512, or less for short texts and contexts',
  }),
  /** Tokens from one window to the next. Default `windowLength`. */
  stride: row('--stride <tokens>', 'tokens from one window to the next', {
    kind: integer(1),
    otherwise: 'the window length',
  }),
  /** Windows to score, from the start. Default all. */
  windowCount: row('--windows <count>', 'windows to measure, from the start of the text', {
    kind: integer(1),
    otherwise: 'all',
  }),
} as const satisfies AnyRows;

/** Options of windows of a text. */
export interface TextWindows extends OptionsOf<typeof TEXT_WINDOWS> {}

/** Options of an evaluation by the measurement that reads them. */
const READ_BY = {
  texts: ['windowLength', 'stride', 'windowCount'],
  tasks: ['limit', 'delimiter'],
} as const;

/** Refuses options of texts or tasks that are not measured. @throws OptionError */
export function checkMeasuring(
  request: {
    readonly [Name in keyof typeof READ_BY | (typeof READ_BY)['texts' | 'tasks'][number]]?: unknown;
  },
): void {
  for (const kind of ['texts', 'tasks'] as const) {
    const files = request[kind];
    const unused = READ_BY[kind].find((name) => request[name] !== undefined);
    if (unused !== undefined && !(Array.isArray(files) && files.length > 0))
      throw refusal(unused, `has no effect without ${kind}; leave it out`);
  }
}

export const READING = {
  /**
   * Begin windows, documents, items and prompts with the tokens that the tokenizer's post-processor puts before a text,
   * such as BOS. Default true; many tokenizers have none.
   */
  bos: row('--no-bos', 'do not begin texts with the BOS token of the tokenizer', {
    kind: boolean,
    default: true,
  }),
} as const satisfies AnyRows;

/** Options of tokenization. */
export interface ReadingOptions extends OptionsOf<typeof READING> {}

export const TEXT_EVALUATION = {
  /** Text files, UTF-8, `.txt` or `.jsonl`. Default: none; then prompts are required. */
  texts: row('-t, --text <file>', '.txt or .jsonl for perplexity; may be repeated', {
    kind: fileList,
    otherwise: 'none',
    common: true,
  }),
  /** Prompts that both models continue in the report, by greedy decoding. Default: none. */
  prompts: row('--sample <prompt>', 'prompt that both models continue; may be repeated', {
    kind: listOf(anyText, 'a list of texts, such as ["Once upon a time"]', 'texts'),
    otherwise: 'none',
    common: true,
  }),
  /** Largest number of tokens to generate after each prompt; the text ends where the model's context is full. Default 40. */
  newTokens: row(undefined, 'tokens to generate after each prompt, at most', { kind: integer(1), default: 40 }),
  /** Tokens per window, at least 2 and at most the text's length and the model's context length. Default 512, or less if those are shorter. */
  windowLength: { ...TEXT_WINDOWS.windowLength, flag: undefined },
  /** Tokens from one window to the next. Default `windowLength`. */
  stride: { ...TEXT_WINDOWS.stride, flag: undefined },
  /** Windows to score of each text, from the start. Default all. */
  windowCount: {
    ...TEXT_WINDOWS.windowCount,
    flag: undefined,
    help: 'windows to measure, from the start of each text',
  },
} as const satisfies AnyRows;

/** Texts that the dense and the pruned model are compared on. */
export interface TextEvaluation extends OptionsOf<typeof TEXT_EVALUATION> {}
