import { OptionError } from '../errors.js';

/** Runs an action on a text. @throws OptionError prefixed by the text's name */
export async function withTextContext<T>(name: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (cause instanceof OptionError) throw new OptionError(`${name}: ${cause.message}`, { cause });
    throw cause;
  }
}
