import type * as library from '../node.js';

/** Port to the library: what the commands call. `src/node.ts` fits it, and so do test doubles. */
export type CliApi = library.NodeCalls & Pick<typeof library, 'compareEvaluations' | 'benchmark'>;
