import { squaredRowNorms } from '../linalg/matrix-block.js';
import type { Pca } from '../linalg/pca.js';
import { FLOAT32, INT64 } from '../onnx/data-types.js';
import { OPEN } from '../onnx/value-facts.js';
import { type BlockRunner, countTokens } from '../runtime/block-runner.js';
import { releaseTensors } from '../runtime/tensor-memory.js';
import { extendStage } from './extend-stage.js';
import { projectRows } from './project-features.js';

export interface ContextSumRequest {
  /** Value of the current stage with the features of contexts, one row per token. */
  readonly feature: string;
  readonly pca: Pca;
  /** `[contextCount, pca.componentCount]` row-major. */
  readonly centers: Float64Array;
  readonly contextCount: number;
  /** Value of the current stage with `channelCount` channels on its last axis. */
  readonly value: string;
  readonly channelCount: number;
}

export interface ContextSums {
  /** Nearest centre of every calibration token, in single precision. */
  readonly contextOfToken: Int32Array;
  /** Sums of the value over the tokens of each context, by window: `[contextCount, channelCount]` row-major. */
  readonly sumsOfWindow: Float32Array[];
}

/** Assigns every token to its nearest context, and sums a value's channels over the tokens of each context, in one pass. */
export async function sumByContext(runner: BlockRunner, request: ContextSumRequest): Promise<ContextSums> {
  const { feature, value, channelCount, contextCount } = request;
  const tokenCount = countTokens(runner.batches);
  const contextOfToken = new Int32Array(tokenCount);
  const sumsOfWindow: Float32Array[] = [];
  const { names, ...own } = sumNodes(request, runner.batches[0]?.sequenceLength ?? 1);
  const extension = { ...own, outputs: [names.nearest, names.sums] };
  for await (const { batch, values } of runner.observe({ fetches: [], reads: [feature, value], extension })) {
    contextOfToken.set(Int32Array.from(values[names.nearest]!.data as BigInt64Array, Number), batch.firstToken);
    const rows = values[names.sums]!.data as Float32Array;
    const size = contextCount * channelCount;
    for (let row = 0; row < batch.batchSize; row += 1) sumsOfWindow.push(rows.slice(row * size, (row + 1) * size));
    releaseTensors(values);
  }
  return { contextOfToken, sumsOfWindow };
}

/** The nearest centre c of a point x has the largest `x c - |c|² / 2`. */
function sumNodes(request: ContextSumRequest, windowLength: number) {
  const { feature, pca, centers, contextCount, value, channelCount } = request;
  const offsets = squaredRowNorms(centers, pca.componentCount).map((square) => -square / 2);
  return extendStage('contexts', (o) => {
    const { node } = o.emitter;
    const factors = [
      projectRows(o, { value: feature, pca }),
      o.tensor('centers', [contextCount, pca.componentCount], centers),
      o.tensor('offsets', [contextCount], offsets),
    ];
    const byContext = { dims: [OPEN, contextCount], dataType: FLOAT32 };
    const nearness = node('Gemm', factors, { ...byContext, attributes: { transB: 1 } });
    const picked = { dims: [OPEN, 1], dataType: INT64, attributes: { axis: 1, keepdims: 1 } };
    const nearest = node('ArgMax', [nearness], picked);
    const isNearest = o.equal(nearest, o.range([contextCount]));
    const onehot = o.regroup(o.cast(isNearest, FLOAT32), [OPEN, windowLength, contextCount]);
    const windows = o.regroup(o.float(o.value(value)), [OPEN, windowLength, channelCount]);
    return { nearest, sums: o.matMul(o.transpose(onehot, [0, 2, 1]), windows) };
  });
}
