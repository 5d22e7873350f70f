import type { DetectedModel } from './detect-layout.js';
import type { PrunableModule } from './layout.js';

/** Scores of experts, where the experts of a token compete, so that one that is gone must not take part. */
export interface Competition {
  readonly value: string;
  /** First results of the nodes that read it, in order. */
  readonly readers: readonly string[];
  /** Axes of the experts: all of them, or groups and their members. */
  readonly dims: readonly number[];
}

/** Operators in which experts compete; a mixture in one operator is another. */
const COMPETING: ReadonlySet<string> = new Set(['Softmax', 'LogSoftmax', 'TopK', 'ArgMax', 'ReduceMax']);

/** Where the experts of a mixture compete. */
export function competitions({ index, traces }: DetectedModel, module: PrunableModule): Competition[] {
  const { labels, nodes, unitCount } = traces[module.index]!;
  const { input: scores, result } = module.output;
  const readers = new Map<string, string[]>();
  const add = (value: string, reader: string) => readers.set(value, [...(readers.get(value) ?? []), reader]);
  for (const at of nodes) {
    const { opType, input, output } = index.nodes[at]!;
    const [value = ''] = input;
    // Written out, a share may be computed of an expert's score alone.
    if (module.writtenExperts !== undefined && input.includes(scores)) add(scores, output[0]!);
    else if (COMPETING.has(opType) && labels.has(value)) add(value, output[0]!);
  }
  if (module.writtenExperts === undefined) add(scores, result);
  return [...readers].map(([value, results]) => {
    const { codes } = labels.get(value)!;
    return {
      value,
      readers: results,
      dims: codes.length === unitCount ? [unitCount] : [unitCount / codes.length, codes.length],
    };
  });
}
