import type { NodeCalls } from '../node/node-calls.js';
import { runIsolated } from '../node/run-isolated.js';
import { mapCalls, type RequestOf } from '../pipeline/call-table.js';
import { compareEvaluations } from '../pipeline/compare-evaluations.js';
import type { CliApi } from './api.js';

/** The library as the command line calls it: isolated calls run in their own process, and the rest of the library is loaded on demand. */
export const isolatedApi: CliApi = {
  ...mapCalls<NodeCalls>(
    () => true,
    (call, { isolated }) =>
      async (request: RequestOf<typeof call>) =>
        isolated ? runIsolated(call, request) : (await import('../node.js'))[call](request as never),
  ),
  compareEvaluations,
  // It already starts a process for each model.
  benchmark: async (request) => (await import('../node.js')).benchmark(request),
};
