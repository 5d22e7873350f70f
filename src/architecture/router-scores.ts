import type { DetectedModel } from './detect-layout.js';
import type { PrunableModule } from './layout.js';

/** Router scores that a node compares between experts (TopK, Softmax): those of removed experts must be masked out. */
export interface RouterScores {
  readonly value: string;
  /** First results of the nodes that read it, in order. */
  readonly readers: readonly string[];
  /** Axes of the experts: all of them, or groups and their members. */
  readonly dims: readonly number[];
}

/** Operators that compare the scores of experts, in addition to fused mixtures. */
const SCORE_OPERATORS: ReadonlySet<string> = new Set(['Softmax', 'LogSoftmax', 'TopK', 'ArgMax', 'ReduceMax']);

/** Finds the nodes that compare the experts of a mixture. */
export function findRouterScores({ index, traces }: DetectedModel, module: PrunableModule): RouterScores[] {
  const { labels, nodes, unitCount } = traces[module.index]!;
  const { input: scores, result } = module.output;
  const readers = new Map<string, string[]>();
  const add = (value: string, reader: string) => readers.set(value, [...(readers.get(value) ?? []), reader]);
  for (const at of nodes) {
    const { opType, input, output } = index.nodes[at]!;
    const [value = ''] = input;
    // In an unfused mixture, a routing weight may depend on a single expert's score.
    if (module.unfusedExperts !== undefined && input.includes(scores)) add(scores, output[0]!);
    else if (SCORE_OPERATORS.has(opType) && labels.has(value)) add(value, output[0]!);
  }
  if (module.unfusedExperts === undefined) add(scores, result);
  return [...readers].map(([value, results]) => {
    const { unitIds } = labels.get(value)!;
    return {
      value,
      readers: results,
      dims: unitIds.length === unitCount ? [unitCount] : [unitCount / unitIds.length, unitIds.length],
    };
  });
}
