import type { BlockSpan } from '../architecture/layout.js';
import { type CarriedHidden, carriedOf } from '../onnx/extract-stage.js';
import { isFloatType } from '../onnx/float-encoding.js';
import type { GraphIndex } from '../onnx/graph-index.js';
import { partitionGraph } from '../onnx/partition.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';

/** A value besides the hidden state that one block computes, later blocks read, and training changes, such as shared keys. */
export interface ChangingValue {
  readonly name: string;
  /** Index of the span that computes it. */
  readonly span: number;
  /** Whether it has a cotangent. */
  readonly isFloat: boolean;
}

/** Values besides the hidden state that later blocks read. */
export interface CarriedValues {
  /** Those that training changes, which every forward pass computes again. */
  readonly changing: readonly ChangingValue[];
  /** Those that depend only on the input of the first block and untrained weights: per-layer inputs. */
  readonly fixed: readonly CarriedHidden[];
  /** Whether a value is computed once, before training. */
  isFixed(name: string): boolean;
}

/** Finds the values besides the hidden state that later blocks read. @param index Of the graph that is run. */
export function findCarried(
  { detected, facts }: Pick<AnalysedModel, 'detected' | 'facts'>,
  index: GraphIndex,
  spans: readonly BlockSpan[],
): CarriedValues {
  const { cuts } = detected.partition;
  const first = cuts[0]!;
  const afterFirst = cuts[1] ?? first;
  const bySegment = partitionGraph(index, cuts);
  const bySpan = partitionGraph(index, [first, ...spans.map(({ last }) => cuts[last]!)]);
  const isFloat = (name: string) => isFloatType(facts.first.get(name)?.dataType ?? 0);
  const notFixed = new Set(carriedOf(index, bySegment, afterFirst).map(({ name }) => name));
  return {
    changing: carriedOf(index, bySpan, afterFirst).map(({ name, stage }) => ({
      name,
      span: stage - 1,
      isFloat: isFloat(name),
    })),
    fixed: carriedOf(index, bySegment, first).filter(({ name }) => !notFixed.has(name)),
    isFixed: (name) => !notFixed.has(name),
  };
}
