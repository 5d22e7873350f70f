import { isAbsolute } from 'node:path';
import { pathToFileURL } from 'node:url';

/**
 * URL of the file of this code; undefined if unknown, such as in a bundle evaluated as text.
 *
 * The package's ES modules and bundles of them have `import.meta.url`. Its CommonJS build and CommonJS bundles do not,
 * and have their own `__filename`. Code that is evaluated as text sees a global `__filename` such as `[eval]`,
 * which is not a path: relative to the current folder it would refer to unrelated code.
 */
export const MODULE_URL: string | undefined = import.meta.url ?? ownFilename();

function ownFilename(): string | undefined {
  return typeof __filename === 'string' && isAbsolute(__filename) ? pathToFileURL(__filename).href : undefined;
}
