import {
  EngineError,
  type FangPruneError,
  ModelFormatError,
  NumericalError,
  OptionError,
  UnsupportedModelError,
} from '../errors.js';

/** An error on its way between processes. */
export interface SentError {
  readonly code: string | undefined;
  readonly message: string;
}

const ERRORS = [OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError];

export function toSentError(error: unknown): SentError {
  const message = error instanceof Error ? error.message : String(error);
  return { code: error instanceof Error && 'code' in error ? String(error.code) : undefined, message };
}

/** An error of the same class, so far as it is one of the library's; else an EngineError. @param from names the process */
export function reviveError({ code, message }: SentError, from: string): FangPruneError {
  const revived = ERRORS.map((ErrorClass): FangPruneError => new ErrorClass(message));
  return revived.find((error) => error.code === code) ?? new EngineError(`${from} failed: ${message}`);
}
