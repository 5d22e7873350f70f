import type { OnnxModel, TensorHandle } from '../../onnx/onnx-model.js';
import type { WeightPart } from './plan-weights.js';

/** What a weight is written as: its codes and their scales, or its numbers. */
export interface WrittenWeight {
  readonly part: WeightPart;
  readonly handles: readonly (TensorHandle | undefined)[];
}

/** Bytes of a written model's weights by part; `other` is all the rest. */
export function countParts(
  { weights }: OnnxModel,
  written: readonly WrittenWeight[],
): Readonly<Record<WeightPart, number>> {
  const parts = { ffn: 0, attention: 0, embedding: 0, head: 0, other: 0 };
  const sum = (handles: Iterable<TensorHandle | undefined>): number =>
    [...handles].reduce((total, handle) => total + (handle?.byteLength ?? 0), 0);
  for (const { part, handles } of written) parts[part] += sum(handles);
  const known = Object.values(parts).reduce((total, bytes) => total + bytes, 0);
  return { ...parts, other: parts.other + sum(weights.values()) - known };
}
