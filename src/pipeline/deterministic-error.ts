import { NumericalError, UnsupportedModelError } from '../errors.js';

/**
 * Whether the same run would end in the same error on any machine, so that nothing need be kept for it: its model cannot be
 * pruned, or holds NaN. A file that cannot be read, an engine that fails, a limit, a full disk or too little memory may be the
 * machine's fault, also where they are the cause of an error about the model.
 */
export function isDeterministicError(error: unknown): boolean {
  if (!(error instanceof UnsupportedModelError || error instanceof NumericalError)) return false;
  return error.cause === undefined || isDeterministicError(error.cause);
}
