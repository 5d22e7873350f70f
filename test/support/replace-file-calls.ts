import promises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

/** The calls of `node:fs/promises`, whatever is put in their place. */
export const FILE_CALLS = { ...promises };

/** Puts other calls in place of those of `node:fs/promises`, for everybody who imports it, until the file's tests are done. */
export function replaceFileCalls(calls: Partial<Record<keyof typeof promises, unknown>>): void {
  put(calls);
  afterAll(() => put(FILE_CALLS));
}

function put(calls: object): void {
  Object.assign(promises, calls);
  syncBuiltinESMExports();
}
