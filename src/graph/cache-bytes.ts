import type { GraphProto } from 'onnx-buf';
import { isFullCache } from './cache-names.js';
import { readModelInputs } from './model-inputs.js';

/** Bytes of the keys, values and states that a decoder keeps of one sequence of so many tokens. */
export function cacheBytes(graph: GraphProto, tokenCount: number, bytesPerElement: number): number {
  return readModelInputs(graph)
    .filter((input) => input.role === 'state' || isFullCache(input))
    .reduce((sum, { dims }) => {
      // The first axis is the batch, and any other that is open grows with the tokens.
      const sizes = dims.map((dim, axis) => (axis === 0 ? 1 : typeof dim === 'number' ? dim : tokenCount));
      return sum + sizes.reduce((product, size) => product * size, bytesPerElement);
    }, 0);
}
