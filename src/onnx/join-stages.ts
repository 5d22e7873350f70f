import { carriedValues, extractStage } from './extract-stage.js';
import type { GraphIndex } from './graph-index.js';
import type { OnnxModel } from './onnx-model.js';
import { partitionGraph } from './partition.js';

export interface JoinRequest {
  /** Index of the graph that is run. */
  readonly index: GraphIndex;
  /** Hidden states on the stream, in order. */
  readonly cuts: readonly string[];
  readonly logits: string;
}

/**
 * Merges stages while their weights do not exceed the heaviest stage, for runs without edits, where every stage costs a
 * session.
 *
 * @returns Some of the cuts, in order.
 */
export function joinStages({ weights }: OnnxModel, { index, cuts, logits }: JoinRequest): string[] {
  const carried = new Set(carriedValues(index, partitionGraph(index, cuts)).flat());
  const bytes = [...cuts, logits].map((output, stage) => {
    const isAvailable = (value: string) => value === cuts[stage - 1] || index.inputs.has(value) || carried.has(value);
    const { initializers } = extractStage(index, { outputs: [output], isAvailable });
    return initializers.reduce((sum, name) => sum + (weights.get(name)?.byteLength ?? 0), 0);
  });
  const limit = Math.max(...bytes);
  let [together = 0] = bytes;
  return cuts.filter((_, at) => {
    const next = bytes[at + 1]!;
    const isCut = together + next > limit;
    together = isCut ? next : together + next;
    return isCut;
  });
}
