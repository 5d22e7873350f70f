import { makeInt64Initializer, makeNode } from '../graph/build.js';
import type { Batch, BlockRunner } from '../runtime/block-runner.js';
import type { StageExtension } from '../runtime/compile-stage.js';
import type { Tensor } from '../runtime/engine.js';

/** One-hot rows of a batch's tokens, `[rowCount, tokens]`, to be multiplied with rows of token values. */
export function oneHot(batch: Batch, rowCount: number, rowOf: (token: number) => number): Tensor {
  const tokenCount = batch.tokens.length;
  const data = new Float32Array(rowCount * tokenCount);
  for (let token = 0; token < tokenCount; token += 1) data[rowOf(token) * tokenCount + token] = 1;
  return { type: 'float32', dims: [rowCount, tokenCount], data };
}

export interface ContextSumRequest {
  /** Value of the current stage with `channelCount` channels on its last axis. */
  readonly value: string;
  readonly channelCount: number;
  /** Context of every calibration token. */
  readonly contextOfToken: Int32Array;
  readonly contextCount: number;
  readonly onBatch?: (batch: Batch) => void;
}

/**
 * Sums a value's channels over the tokens of each context, window by window.
 * @returns For every window `[contextCount, channelCount]` row-major.
 */
export async function sumByContext(runner: BlockRunner, request: ContextSumRequest): Promise<Float32Array[]> {
  const { value, channelCount, contextOfToken, contextCount } = request;
  const extension: StageExtension = {
    nodes: [
      makeNode({ op: 'Cast', inputs: [value], outputs: ['contexts/float'], attributes: { to: 1 } }),
      makeNode({ op: 'Reshape', inputs: ['contexts/float', 'contexts/shape'], outputs: ['contexts/rows'] }),
      makeNode({ op: 'MatMul', inputs: ['contexts/onehot', 'contexts/rows'], outputs: ['contexts/sums'] }),
    ],
    initializers: [makeInt64Initializer('contexts/shape', [-1, channelCount])],
    inputs: [{ name: 'contexts/onehot', type: 'float32' }],
    outputs: ['contexts/sums'],
  };
  const extensionFeeds = (batch: Batch) => {
    const rowOf = (token: number) =>
      Math.floor(token / batch.sequenceLength) * contextCount + contextOfToken[batch.firstToken + token]!;
    return { 'contexts/onehot': oneHot(batch, batch.batchSize * contextCount, rowOf) };
  };
  const sums: Float32Array[] = [];
  for await (const { batch, values } of runner.observe({ fetches: [], reads: [value], extension, extensionFeeds })) {
    const rows = values['contexts/sums']!.data as Float32Array;
    const size = contextCount * channelCount;
    for (let row = 0; row < batch.batchSize; row += 1) sums.push(rows.slice(row * size, (row + 1) * size));
    request.onBatch?.(batch);
  }
  return sums;
}
