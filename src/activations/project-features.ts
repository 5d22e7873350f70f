import type { NodeProto, TensorProto } from 'onnx-buf';
import { makeFloatInitializer, makeInt64Initializer, makeNode } from '../graph/build.js';
import type { MultiplyTransposed } from '../linalg/multiply-transposed.js';
import { fitPca, type Pca } from '../linalg/pca.js';
import type { Batch, BlockRunner } from '../runtime/block-runner.js';
import { collectStatistics } from './collect-statistics.js';
import { runMeters, type StageMeter } from './stage-meter.js';

/** PCA keeps at most this many dimensions. */
const PCA_DIMENSIONS = 64;

export interface PrincipalRequest {
  /** Value of the current stage with one row of `width` features a token. */
  readonly value: string;
  readonly width: number;
  /** Who runs the large products. Default: this library's own loops. */
  readonly multiply?: MultiplyTransposed | undefined;
}

/** Finds the principal components of a value of the current stage, over all tokens. */
export async function fitFeatures(runner: BlockRunner, { value, width, multiply }: PrincipalRequest): Promise<Pca> {
  const linear = { node: value, input: value, inputCount: width };
  const groups = [Int32Array.from({ length: width }, (_, channel) => channel)];
  const [[statistics] = []] = await collectStatistics(runner, { targets: [{ linear, needs: 'gram', groups }] });
  const { gram, mean } = statistics!;
  const covariance = gram!.slice();
  for (let row = 0, at = 0; row < width; row++) {
    for (let column = 0; column < width; column++, at++) covariance[at]! -= mean[row]! * mean[column]!;
  }
  return fitPca(mean, covariance, { componentCount: Math.min(PCA_DIMENSIONS, width), multiply });
}

/** Tokens seen as points in the space of a PCA, which the graph projects them into. */
export interface FeatureRequest {
  /** Value with one row of features a token. */
  readonly value: string;
  readonly pca: Pca;
  /** Tells the request's values from those of others on the same stage. Default 0. */
  readonly index?: number;
}

/**
 * Projects a value of the current stage into PCA space, for all tokens.
 * @returns `[tokens, componentCount]` row-major, tokens in the order of the batches.
 */
export async function projectFeatures(runner: BlockRunner, request: FeatureRequest): Promise<Float64Array> {
  const meter = createPointMeter(request, runner.batches);
  await runMeters(runner, [meter]);
  return meter.points;
}

export interface PointMeter extends StageMeter {
  /** `[tokens, componentCount]` row-major, tokens in the order of the batches. */
  readonly points: Float64Array;
}

/** A meter of tokens as points. */
export function createPointMeter(request: FeatureRequest, batches: readonly Batch[]): PointMeter {
  const { componentCount } = request.pca;
  const projection = projectionNodes(request);
  const tokenCount = batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const points = new Float64Array(tokenCount * componentCount);
  return {
    points,
    reads: [request.value],
    extension: { ...projection, inputs: [], outputs: [projection.points] },
    feeds: () => ({}),
    add({ firstToken }, values) {
      points.set(values[projection.points]!.data as Float32Array, firstToken * componentCount);
    },
  };
}

/** Nodes that make a value `points`, `[tokens, componentCount]`, of one with a row of features a token. */
export interface Projection {
  readonly nodes: readonly NodeProto[];
  readonly initializers: readonly TensorProto[];
  readonly points: string;
}

export function projectionNodes({ value, pca, index = 0 }: FeatureRequest): Projection {
  const { size, componentCount } = pca;
  const name = (what: string) => `features/${index}/${what}`;
  const points = name('points');
  return {
    points,
    nodes: [
      makeNode({ op: 'Cast', inputs: [value], outputs: [name('float')], attributes: { to: 1 } }),
      makeNode({ op: 'Reshape', inputs: [name('float'), name('shape')], outputs: [name('rows')] }),
      makeNode({ op: 'Sub', inputs: [name('rows'), name('mean')], outputs: [name('centred')] }),
      makeNode({ op: 'MatMul', inputs: [name('centred'), name('components')], outputs: [points] }),
    ],
    initializers: [
      makeInt64Initializer(name('shape'), [-1, size]),
      makeFloatInitializer(name('mean'), [size], pca.mean),
      makeFloatInitializer(name('components'), [size, componentCount], pca.components),
    ],
  };
}
