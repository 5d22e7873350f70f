import type { TokenSource } from '../calibration/token-source.js';
import { omitUndefined } from '../omit-undefined.js';
import { atLeast, boolean, choice, either, integer, type Kind, record, text } from './kinds.js';
import { type AnyRows, checkOptions, defaultsOf, type OptionsOf, type Rows, row } from './option.js';

/** Where calibration tokens come from; exactly one source, or a file that holds one (`.txt`, or `.jsonl` of texts or ids). */
export type CalibrationSource = TokenSource | { readonly file: string };

/** Below this, documents from one start token begin to be the same. */
export const LEAST_TEMPERATURE = 0.1;

/** Shorter, a document is nothing but its start token. */
export const LEAST_DOCUMENT_LENGTH = 2;

const sources = ['file', 'text', 'tokens', 'jsonl'];
const source: Kind<CalibrationSource> = {
  accepts: (value): value is CalibrationSource => {
    if (typeof value !== 'object' || value === null) return false;
    const file = 'file' in value ? value.file : '';
    return typeof file === 'string' && sources.filter((name) => name in value).length === 1;
  },
  expected: `an object with one of ${sources.join(', ')}, such as { file: "texts.txt" }`,
  typed: 'a .txt or .jsonl file',
  reads: 'file',
};

const GENERATE = {
  /**
   * Fraction of the windows that the model writes, above 0 to 1. Default 0.5; 1 where there is neither a source nor a
   * tokenizer to read the default text with.
   */
  share: row(undefined, 'fraction of the windows that the model writes', {
    kind: {
      accepts: (value): value is number => typeof value === 'number' && value > 0 && value <= 1,
      expected: 'a number above 0 to 1, such as 0.5 for half the windows (false for none)',
      typed: 'a fraction above 0 to 1, such as 50% (--no-generate-calibration for none)',
    },
    otherwise: '0.5; 1 without source and tokenizer',
  }),
  /** At least 0.1. Default 1: the model's own distribution, from which nothing is cut. */
  temperature: row(undefined, 'sampling temperature', {
    kind: atLeast(LEAST_TEMPERATURE, " (1 is the model's own distribution; near 0 all documents are the same)"),
    default: 1,
  }),
  /**
   * Tokens of each document that the model writes, at most, at least 2. A window holds as many as fill it, of equal
   * length. Default 128: many beginnings cover more of what the model knows than a few long documents do.
   */
  documentLength: row(undefined, 'tokens of each document that the model writes', {
    kind: integer(LEAST_DOCUMENT_LENGTH),
    default: 128,
  }),
  /** Token that every document begins with. Default: `<|endoftext|>` where the tokenizer has it, else the model's BOS, else its EOS. */
  startToken: row('--start-token <id>', 'token that the documents the model writes begin with', {
    kind: integer(0),
    otherwise: "the tokenizer's `<|endoftext|>`, else the model's BOS or EOS",
  }),
  /** Default: the run's seed. Document i draws from its own stream of it. */
  seed: row(undefined, 'seed of the windows that the model writes', { kind: integer(0), otherwise: "the run's seed" }),
  /**
   * File (`.jsonl`) that keeps the windows as they are finished; a later run of the same model, seed and settings resumes
   * from it. It can be a calibration source as it is. Default: none while sampling.
   */
  file: row('--windows-file <file>', 'a .jsonl file that keeps those windows; a later run resumes from it', {
    kind: text('a path that ends in .jsonl', (value) => value.endsWith('.jsonl')),
    otherwise: 'none',
  }),
} as const satisfies AnyRows;

/**
 * Windows that the dense model writes itself, to be measured on in addition to or instead of a text.
 * @see Self-calibration for Language Model Quantization and Pruning (arXiv 2410.17170)
 */
export interface GenerateOptions extends OptionsOf<typeof GENERATE> {}

const WINDOWS = {
  /** Default: the public text that ships with the package. */
  source: row('-c, --calibration <file>', 'a .txt or .jsonl file', {
    kind: source,
    otherwise: 'a bundled text',
    everyday: true,
  }),
  /** Windows to cut, at least 1. Default 64; fewer are used when the text runs out. */
  windowCount: row('--windows <count>', 'calibration windows', { kind: integer(1), default: 64, everyday: true }),
  /** Tokens per window, at least 2. Default 512, or the model's context length if that is less. */
  windowLength: row('--window-length <tokens>', 'tokens per window', {
    kind: integer(2),
    otherwise: "512, or the model's context length",
  }),
  /** `first`: from the start of the text. `sample`: windows drawn by the seed. Default `first`. */
  selection: row(undefined, 'windows from the start of the text, or drawn from all of it by the seed', {
    kind: choice(['first', 'sample']),
    otherwise: 'first',
  }),
  /** Has the model write part of the windows itself; `true` = half of them. Default false. */
  generate: row(
    '--generate-calibration [share]',
    'let the model write this fraction of the windows itself, such as 50%',
    {
      kind: { ...either(boolean, record<GenerateOptions>('an object such as { share: 0.5 }')), reads: 'share' },
      otherwise: 'true for auto, else false',
      no: 'measure on text alone',
      parts: GENERATE,
    },
  ),
} as const satisfies AnyRows;

/** Which tokens pruning watches the model on. */
export interface CalibrationOptions extends OptionsOf<typeof WINDOWS> {}

export const CALIBRATION = {
  calibration: row(undefined, 'tokens that the model is measured on', {
    kind: record<CalibrationOptions>('an object such as { source: { file: "texts.txt" } }'),
    otherwise: 'as its parts say',
    applies: {
      to: 'methods, metrics, groups, allocations and dtypes that read tokens',
      within: ({ readsTokens }) => readsTokens,
    },
    parts: WINDOWS,
  }),
} as const satisfies Rows<{ readonly calibration?: CalibrationOptions | undefined }>;

/** Default calibration of rounding where nothing is pruned. */
export const ROUNDING_DEFAULTS = { windowCount: 16, generate: true } as const;

/** Default calibration of rounding without pruning: it needs fewer windows. */
export const CALIBRATION_OF_ROUNDING = {
  calibration: {
    ...CALIBRATION.calibration,
    help: 'tokens that calibrated rounding reads',
    applies: { to: '`rounding` "calibrated"', within: () => true },
    parts: {
      ...WINDOWS,
      windowCount: { ...WINDOWS.windowCount, default: ROUNDING_DEFAULTS.windowCount },
      generate: { ...WINDOWS.generate, otherwise: 'true, where the model can write' },
    },
  },
} as const;

/** Options of calibration whose number of windows and generated share another option sets. */
const { windowCount: _, generate: written, ...HEALED_ON } = WINDOWS;
const { share: __, ...HOW_TO_WRITE } = GENERATE;
export const TEXTS_OF_HEALING = {
  calibration: row(undefined, 'text and length of the windows', {
    kind: CALIBRATION.calibration.kind,
    otherwise: 'as its parts say',
    parts: {
      ...HEALED_ON,
      generate: row(undefined, 'how the model writes its windows', {
        kind: written.kind,
        otherwise: 'true',
        parts: HOW_TO_WRITE,
      }),
    },
  }),
} as const;

/** Default options of generated text, and the distribution that is sampled from. */
export const GENERATE_DEFAULTS = { share: 0.5, ...defaultsOf(GENERATE) } as const;
export const CALIBRATION_DEFAULTS = { ...defaultsOf(WINDOWS), windowLength: 512, generate: false } as const;

/** Checked options; what depends on the model is still open. */
export interface ResolvedGenerate extends GenerateOptions {
  readonly temperature: number;
  readonly documentLength: number;
}

/** Calibration options that were checked, as far as the model need not be known. */
export interface ResolvedCalibration {
  readonly source: CalibrationSource | undefined;
  readonly windowCount: number;
  /** Undefined: the default, or the model's context length if that is less. */
  readonly windowLength: number | undefined;
  readonly selection: 'first' | 'sample' | undefined;
  /** Undefined: the model writes none of the windows. */
  readonly generate: ResolvedGenerate | undefined;
  /** The windows that the model writes are the method's wish and not the user's: a model that cannot write does without. */
  readonly generateIfPossible: boolean;
}

/**
 * Checks calibration options and fills in the defaults.
 * @throws OptionError naming the option, what it was and what it may be.
 */
export function resolveCalibration(
  calibration: CalibrationOptions = {},
  defaults: Pick<CalibrationOptions, 'generate' | 'windowCount'> = CALIBRATION_DEFAULTS,
): ResolvedCalibration {
  checkOptions({ calibration }, CALIBRATION);
  const { source, windowLength, selection } = calibration;
  const windowCount = calibration.windowCount ?? defaults.windowCount ?? CALIBRATION_DEFAULTS.windowCount;
  const generate = calibration.generate ?? defaults.generate ?? false;
  return {
    source,
    windowCount,
    windowLength,
    selection,
    generate:
      generate === false ? undefined : { ...defaultsOf(GENERATE), ...omitUndefined(generate === true ? {} : generate) },
    generateIfPossible: generate !== false && calibration.generate === undefined,
  };
}
