import { makeFloatInitializer, makeInt64Initializer, makeNode } from '../graph/build.js';
import { squaredRowNorms } from '../linalg/matrix-block.js';
import type { Pca } from '../linalg/pca.js';
import type { BlockRunner } from '../runtime/block-runner.js';
import type { StageExtension } from '../runtime/compile-stage.js';
import { releaseTensors } from '../runtime/tensor-memory.js';
import { projectionNodes } from './project-features.js';

export interface ContextSumRequest {
  /** Value of the current stage with the features of contexts, one row a token. */
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

/** Gives every token its nearest context, and sums a value's channels over the tokens of each context, in one pass. */
export async function sumByContext(runner: BlockRunner, request: ContextSumRequest): Promise<ContextSums> {
  const { feature, value, channelCount, contextCount } = request;
  const tokenCount = runner.batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const contextOfToken = new Int32Array(tokenCount);
  const sumsOfWindow: Float32Array[] = [];
  const extension = sumNodes(request, runner.batches[0]?.sequenceLength ?? 1);
  for await (const { batch, values } of runner.observe({ fetches: [], reads: [feature, value], extension })) {
    contextOfToken.set(Int32Array.from(values['contexts/nearest']!.data as BigInt64Array, Number), batch.firstToken);
    const rows = values['contexts/sums']!.data as Float32Array;
    const size = contextCount * channelCount;
    for (let row = 0; row < batch.batchSize; row += 1) sumsOfWindow.push(rows.slice(row * size, (row + 1) * size));
    releaseTensors(values);
  }
  return { contextOfToken, sumsOfWindow };
}

/** The nearest centre c of a point x has the largest `x c - |c|² / 2`. */
function sumNodes(request: ContextSumRequest, windowLength: number): StageExtension {
  const { feature, pca, centers, contextCount, value, channelCount } = request;
  const { componentCount } = pca;
  const name = (what: string) => `contexts/${what}`;
  const node = (op: string, inputs: string[], output: string, attributes = {}) =>
    makeNode({ op, inputs, outputs: [name(output)], attributes });
  const own = (op: string, inputs: string[], output: string, attributes = {}) =>
    node(op, inputs.map(name), output, attributes);
  const projection = projectionNodes({ value: feature, pca });
  return {
    nodes: [
      ...projection.nodes,
      node('Gemm', [projection.points, name('centers'), name('offsets')], 'nearness', { transB: 1 }),
      own('ArgMax', ['nearness'], 'nearest', { axis: 1, keepdims: 1 }),
      own('Equal', ['nearest', 'indices'], 'isNearest'),
      own('Cast', ['isNearest'], 'onehot', { to: 1 }),
      own('Reshape', ['onehot', 'onehotShape'], 'byWindow'),
      own('Transpose', ['byWindow'], 'members', { perm: [0, 2, 1] }),
      node('Cast', [value], 'float', { to: 1 }),
      own('Reshape', ['float', 'shape'], 'rows'),
      own('MatMul', ['members', 'rows'], 'sums'),
    ],
    initializers: [
      ...projection.initializers,
      makeFloatInitializer(name('centers'), [contextCount, componentCount], centers),
      makeFloatInitializer(
        name('offsets'),
        [contextCount],
        squaredRowNorms(centers, componentCount).map((square) => -square / 2),
      ),
      makeInt64Initializer(
        name('indices'),
        Array.from({ length: contextCount }, (_, context) => context),
      ),
      makeInt64Initializer(name('onehotShape'), [-1, windowLength, contextCount]),
      makeInt64Initializer(name('shape'), [-1, windowLength, channelCount]),
    ],
    inputs: [],
    outputs: [name('nearest'), name('sums')],
  };
}
