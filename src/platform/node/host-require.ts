import * as nodeModule from 'node:module';
import { runInThisContext } from 'node:vm';
import { MODULE_URL } from './module-url.js';

/** The process outside of a test runner's sandbox. */
export const hostProcess = (): typeof process => runInThisContext('process');

/**
 * Node's own `require`, for a test runner's sandbox has another: a native addon belongs to the process, and would meet typed
 * arrays of a realm that it does not know.
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
