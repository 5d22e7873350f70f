import type { CompareRequest, ModelComparison } from '../node.js';
import { COMPARE } from '../options/commands.js';
import type { CommandRow } from './command.js';
import { formatComparisons } from './format-comparisons.js';

/** `compare <files...>` */
export const compareCommand: CommandRow<CompareRequest, { readonly comparisons: readonly ModelComparison[] }> = {
  name: 'compare',
  call: 'compareFiles',
  description: 'test whether two evaluations differ by more than noise',
  arguments: { '<files...>': 'output of `eval --json`, or its --resume files' },
  families: COMPARE,
  examples: [
    'compare dense.json pruned.json',
    'compare scores.jsonl',
    'compare dense.json pruned.json --confidence 99%',
  ],
  run: async (api, { onProgress, signal, ...request }) => ({ comparisons: await api.compareFiles(request) }),
  format: ({ comparisons }, colors) => formatComparisons(comparisons, colors),
};
