import { OptionError } from '../errors.js';

/**
 * Windows that the dense model writes itself, to be measured on beside or instead of a text.
 * @see Self-calibration for Language Model Quantization and Pruning (arXiv 2410.17170)
 */
export interface GenerateOptions {
  /**
   * Fraction of the windows that the model writes, above 0 to 1. Default 0.5; 1 where there is neither a source nor a
   * tokenizer to read the default text with.
   */
  readonly share?: number | undefined;
  /** At least 0.1. Default 1: the model's own distribution, from which nothing is cut. */
  readonly temperature?: number | undefined;
  /** Token that every window begins with. Default: `<|endoftext|>` where the tokenizer has it, else the model's BOS, else its EOS. */
  readonly startToken?: number | undefined;
  /** Windows written together, at least 1. Default: as many as 192 MiB of keys and values (or a quarter of the model's size) hold, 32 at most. */
  readonly batchSize?: number | undefined;
  /** Default: the run's seed. Window i draws from its own stream of it. */
  readonly seed?: number | undefined;
  /**
   * File (`.jsonl`) that keeps the windows as they are finished; a later run of the same model, seed and settings goes on
   * from it. It can be a calibration source as it is. Default: none while sampling.
   */
  readonly file?: string | undefined;
}

/** Default share, and the default temperature: the model's own distribution. */
export const GENERATE_DEFAULTS = { share: 0.5, temperature: 1 } as const;

/** Checked options; what depends on the model is still open. */
export interface ResolvedGenerate extends GenerateOptions {
  readonly temperature: number;
}

/** Below this, windows from one start token begin to be the same. */
export const LEAST_TEMPERATURE = 0.1;

/**
 * Checks `calibration.generate`.
 * @returns undefined when the model is to write nothing.
 * @throws OptionError naming the option, what it was and what it may be.
 */
export function resolveGenerate(given: GenerateOptions | boolean): ResolvedGenerate | undefined {
  if (given === false) return undefined;
  const chosen = given === true ? {} : given;
  if (typeof chosen !== 'object' || chosen === null) {
    throw new OptionError(`calibration.generate is ${String(given)}; expected true, false or an object`);
  }
  const names = Object.keys(CHECKS);
  const stray = Object.keys(chosen).find((name) => !names.includes(name));
  if (stray !== undefined) {
    throw new OptionError(`calibration.generate.${stray} is unknown; expected ${names.join(', ')}`);
  }
  for (const [name, { isFine, expected }] of Object.entries(CHECKS)) {
    const value = chosen[name as keyof GenerateOptions];
    if (value !== undefined && !isFine(value)) {
      throw new OptionError(
        `calibration.generate.${name} is ${JSON.stringify(value) ?? String(value)}; expected ${expected}`,
      );
    }
  }
  return { ...chosen, temperature: chosen.temperature ?? GENERATE_DEFAULTS.temperature };
}

interface Check {
  readonly isFine: (value: unknown) => boolean;
  readonly expected: string;
}

const whole = (least: number): Check => ({
  isFine: (value) => Number.isSafeInteger(value) && Number(value) >= least,
  expected: `a whole number of at least ${least}`,
});

const CHECKS: Readonly<Record<keyof GenerateOptions, Check>> = {
  share: {
    isFine: (value) => typeof value === 'number' && value > 0 && value <= 1,
    expected: 'a number above 0 to 1, such as 0.5 for half the windows (false for none)',
  },
  temperature: {
    isFine: (value) => typeof value === 'number' && value >= LEAST_TEMPERATURE && value < Number.POSITIVE_INFINITY,
    expected: `a number of at least ${LEAST_TEMPERATURE} (1 is the model's own distribution; near 0 all windows are the same)`,
  },
  startToken: whole(0),
  batchSize: whole(1),
  seed: whole(0),
  file: {
    isFine: (value) => typeof value === 'string' && value.endsWith('.jsonl'),
    expected: 'a path that ends in .jsonl',
  },
};
