import { makeNode } from '../onnx/build.js';
import type { StageExtension } from '../runtime/compile-stage.js';
import type { Tensor, Tensors } from '../runtime/engine.js';
import { releaseTensor, retainTensor } from '../runtime/tensor-memory.js';

/** A product over tokens, computed and summed over runs in the graph, in single precision. */
export interface ProductSum {
  readonly extension: StageExtension;
  /** Feeds of the next run. */
  feeds(): Tensors;
  /** Adds one run's result. */
  add(values: Tensors): void;
  /** Returns the mean over the tokens of all runs, row-major; it overwrites the sum. */
  finish(tokenCount: number): Float32Array;
}

/**
 * A node for `leftᵀ · right`.
 * @param name Name of the sum. @param left,right Values with one row per token.
 */
export function createProductSum(name: string, left: string, right: string): ProductSum {
  const before = `${name}/before`;
  let sum: Tensor = { type: 'float32', dims: [1], data: new Float32Array(1) };
  return {
    extension: {
      nodes: [makeNode({ op: 'Gemm', inputs: [left, right, before], outputs: [name], attributes: { transA: 1 } })],
      initializers: [],
      inputs: [{ name: before, type: 'float32' }],
      outputs: [name],
    },
    feeds: () => ({ [before]: sum }),
    add(values) {
      const next = values[name]!;
      retainTensor(next);
      releaseTensor(sum);
      sum = next;
    },
    finish(tokenCount) {
      const mean = sum.data as Float32Array;
      for (let at = 0; at < mean.length; at += 1) mean[at]! /= tokenCount;
      return mean;
    },
  };
}
