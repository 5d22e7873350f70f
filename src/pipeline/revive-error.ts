import {
  EngineError,
  type FangPruneError,
  HubError,
  ModelFormatError,
  NumericalError,
  OptionError,
  UnsupportedModelError,
} from '../errors.js';

/** An error as a message between processes. */
export interface SentError {
  readonly code: string | undefined;
  readonly message: string;
  /** Of an OptionError. */
  readonly option?: string | undefined;
  /** Where it was thrown. */
  readonly stack?: string | undefined;
  readonly cause?: SentError | undefined;
}

const ERRORS = [OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError, HubError];

export function toSentError(error: unknown): SentError {
  if (!(error instanceof Error)) return { code: undefined, message: String(error) };
  const { message, stack } = error;
  const cause = error.cause instanceof Error ? toSentError(error.cause) : undefined;
  const option = error instanceof OptionError ? error.option : undefined;
  return { code: 'code' in error ? String(error.code) : undefined, message, option, stack, cause };
}

/** Creates an error of the same class, if it is one of the library's, with the original stack and causes. */
export function reviveError({ code, message, option, stack, cause: sent }: SentError): Error {
  const cause = sent && reviveError(sent);
  const revived = ERRORS.map((ErrorClass): FangPruneError => new ErrorClass(message, { option, cause }));
  const error = revived.find((one) => one.code === code) ?? new Error(message, { cause });
  if (stack !== undefined) error.stack = stack;
  return error;
}
