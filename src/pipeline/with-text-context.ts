import { OptionError } from '../errors.js';

/** Runs what reads a text. @throws OptionError with the text's name before what was wrong. */
export async function withTextContext<T>(name: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (cause instanceof OptionError) throw new OptionError(`${name}: ${cause.message}`, { cause });
    throw cause;
  }
}
