import * as nodeModule from 'node:module';
import { runInThisContext } from 'node:vm';
import { MODULE_URL } from './module-url.js';

/** The host process outside of a test runner's sandbox. */
export const hostProcess = (): typeof process => runInThisContext('process');

/**
 * Node's own `require` instead of a test runner's: a native addon does not recognise typed arrays of the sandbox's
 * realm.
 * @param place Default: this module's own, never the current folder.
 */
export function requireFrom(place = MODULE_URL): NodeJS.Require {
  if (place === undefined)
    throw new Error(
      'this code was evaluated as text, and has no file from which packages could be resolved. Import fang-prune from node_modules',
    );
  const { createRequire } = hostProcess().getBuiltinModule?.('node:module') ?? nodeModule;
  return createRequire(place);
}
