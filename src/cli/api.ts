import type * as library from '../node.js';

/** Calls of the library that commands use: those of `src/node.ts`, or test doubles. */
export type CliApi = library.NodeCalls & Pick<typeof library, 'compareEvaluations' | 'benchmark'>;
