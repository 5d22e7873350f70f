import { FLOAT16 } from '../onnx/data-types.js';
import { type ModelInput, type PrefillSize, prefillDims } from '../onnx/model-inputs.js';
import type { Tensor } from './engine.js';

/**
 * Feeds for a run without past over windows that need no padding: mask all ones, positions 0..S-1, empty caches.
 * `tokens` are the ids row by row, `[batchSize, sequenceLength]`. Default: zeros.
 */
export function prefillFeeds(
  inputs: readonly ModelInput[],
  size: PrefillSize,
  tokens?: ArrayLike<number>,
): Record<string, Tensor> {
  return Object.fromEntries(
    inputs.map((input) => [input.name, makeFeed(input, prefillDims(input, size), size, tokens)]),
  );
}

function makeFeed(input: ModelInput, dims: number[], size: PrefillSize, tokens: ArrayLike<number> | undefined): Tensor {
  const length = dims.reduce((product, dim) => product * dim, 1);
  const type = ({ 1: 'float32', 6: 'int32' } as const)[input.dataType] ?? 'int64';
  switch (input.role) {
    case 'tokens':
      return integersOf(type, dims, (at) => tokens?.[at] ?? 0);
    case 'attentionMask':
      return integersOf(type, dims, () => 1);
    case 'positions':
    case 'cachePositions':
      return integersOf(type, dims, (at) => at % size.sequenceLength);
    case 'tokenTypes':
    // No logits to keep means all of them.
    case 'logitsToKeep':
      return integersOf(type, dims, () => 0);
    case 'useCache':
      return { type: 'bool', dims, data: new Uint8Array(length) };
    case 'past':
    case 'state':
      return input.dataType === FLOAT16
        ? { type: 'float16', dims, data: new Uint16Array(length) }
        : { type: 'float32', dims, data: new Float32Array(length) };
  }
}

/** Integers as the type of a model's input: int32, int64, or float32. */
export function integersOf(type: Tensor['type'], dims: readonly number[], valueAt: (at: number) => number): Tensor {
  const length = dims.reduce((product, dim) => product * dim, 1);
  if (type === 'int32') return { type, dims, data: Int32Array.from({ length }, (_, at) => valueAt(at)) };
  if (type === 'float32') return { type, dims, data: Float32Array.from({ length }, (_, at) => valueAt(at)) };
  return { type: 'int64', dims, data: BigInt64Array.from({ length }, (_, at) => BigInt(valueAt(at))) };
}
