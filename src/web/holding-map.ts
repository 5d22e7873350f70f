import { OptionError } from '../errors.js';
import { lockHere } from './lock-output.js';

/**
 * Makes a call that writes into a map, if its request has one as its output, while no other call of this thread does: workers fill
 * copies, which would be mixed.
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
