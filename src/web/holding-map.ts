import { OptionError } from '../errors.js';
import { lockHere } from './lock-output.js';

/**
 * Makes a call; if its output is a map, it is locked against other calls of this thread: workers write into copies, whose changes
 * would be mixed.
 * @throws OptionError when another call writes into it.
 */
export async function holdingMap<T>(request: object, make: () => Promise<T>): Promise<T> {
  const { out } = request as { readonly out?: unknown };
  if (!(out instanceof Map)) return make();
  const release = lockHere(out, '');
  if (release === undefined)
    throw new OptionError('Another call is writing into the map given as out. Wait for it, or give another map.');
  try {
    return await make();
  } finally {
    release();
  }
}
