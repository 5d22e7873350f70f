import promises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

/** The original calls of `node:fs/promises`. */
export const FILE_CALLS = { ...promises };

/** Replaces calls of `node:fs/promises`, for all importers, until the tests of the file are done. */
export function replaceFileCalls(calls: Partial<Record<keyof typeof promises, unknown>>): void {
  put(calls);
  afterAll(() => put(FILE_CALLS));
}

function put(calls: object): void {
  Object.assign(promises, calls);
  syncBuiltinESMExports();
}
