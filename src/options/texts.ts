import { listOf, text, truth, whole } from './kinds.js';
import { type Rows, row } from './option.js';

/** How a request asks for windows of a text. */
export interface TextWindows {
  /** Tokens per window, at least 2 and at most the text's. Default 512, or the text where it is shorter. */
  readonly windowLength?: number | undefined;
  /** Tokens from one window to the next. Default `windowLength`. */
  readonly stride?: number | undefined;
  /** Windows to score, from the start. Default all. */
  readonly windowCount?: number | undefined;
  /** Start every window with the model's BOS token. Default false. */
  readonly bos?: boolean | undefined;
}

/** Texts that the dense and the pruned model are compared on. */
export interface TextEvaluation extends TextWindows {
  /** Text files, UTF-8, at least one. */
  readonly texts: readonly string[];
  /** Tokens per window, at least 2 and at most the text's and what the model reads. Default 512, or those where they are less. */
  readonly windowLength?: number | undefined;
}

export const fileList = listOf(text('a path'), 'a list of paths, such as ["test.txt"]', 'texts');

export const TEXT_WINDOWS = {
  windowLength: row('--window-length <tokens>', 'tokens per window', { kind: whole(2), otherwise: '512, or the text' }),
  stride: row('--stride <tokens>', 'tokens from one window to the next', {
    kind: whole(1),
    otherwise: 'the window length',
  }),
  windowCount: row('--windows <count>', 'windows to measure, from the start of the text', {
    kind: whole(1),
    otherwise: 'all',
  }),
  bos: row('--bos', "start every window and item with the model's first token", { kind: truth, default: false }),
} as const satisfies Rows<TextWindows>;

export const TEXT_EVALUATION = {
  texts: row('-t, --text <file>', 'text to measure perplexity on; may be repeated', {
    kind: fileList,
    required: true,
    everyday: true,
  }),
  windowLength: { ...TEXT_WINDOWS.windowLength, flag: undefined },
  stride: { ...TEXT_WINDOWS.stride, flag: undefined },
  windowCount: {
    ...TEXT_WINDOWS.windowCount,
    flag: '--text-windows <count>',
    help: 'windows to measure, from the start of each text',
  },
  bos: { ...TEXT_WINDOWS.bos, flag: undefined },
} as const;
