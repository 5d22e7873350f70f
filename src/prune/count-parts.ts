import { sum } from '../linalg/sum.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { elementCount } from '../onnx/value.js';
import type { WeightCodes } from '../quantisation/coded-handle.js';
import type { WeightPart } from './plan-weights.js';

/** Written form of a weight: its codes and their scales, or its numbers. */
export interface WrittenWeight {
  readonly part: WeightPart;
  readonly handles: readonly (TensorHandle | undefined)[];
}

/** The tensors of a weight's codes that no other weight shares. */
export function handlesOf(codes: WeightCodes): WrittenWeight['handles'] {
  if (codes.form === 'blocks') return [codes.stored.codes, codes.stored.scales, codes.stored.zeroPoints];
  const { zeroPoints, ...linear } = codes.linear;
  // Weights share scalar zero points.
  const own = zeroPoints && elementCount(zeroPoints.handle.dims) > 1 ? zeroPoints.handle : undefined;
  return [linear.codes.handle, linear.scales.handle, own];
}

/** Bytes of a written model's weights by part; `other` includes all tensors not in `written`. */
export function countParts(
  { weights }: OnnxModel,
  written: readonly WrittenWeight[],
): Readonly<Record<WeightPart, number>> {
  const parts = { ffn: 0, attention: 0, embedding: 0, head: 0, other: 0 };
  const bytesOf = (handles: Iterable<TensorHandle | undefined>): number =>
    sum([...handles].map((handle) => handle?.byteLength ?? 0));
  for (const { part, handles } of written) parts[part] += bytesOf(handles);
  const known = sum(Object.values(parts));
  return { ...parts, other: parts.other + bytesOf(weights.values()) - known };
}
