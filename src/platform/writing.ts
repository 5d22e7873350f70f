import { OptionError } from '../errors.js';
import { reason } from '../reason.js';

/** Runs an action that writes. @throws OptionError saying what the system said: another place is the remedy. */
export async function writing<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (cause instanceof OptionError) throw cause;
    throw new OptionError(`Cannot write ${path}: ${reason(cause)}. Make room or choose another place.`, { cause });
  }
}
