import type { MultiplyTransposed } from '../linalg/multiply-transposed.js';
import { fitPca, type Pca } from '../linalg/pca.js';
import type { Value } from '../onnx/value.js';
import { type Batch, type BlockRunner, countTokens } from '../runtime/block-runner.js';
import { collectStatistics } from './collect-statistics.js';
import { extendStage, type StageOps } from './extend-stage.js';
import { runMeters, type StageMeter } from './stage-meter.js';

/** PCA keeps at most this many dimensions. */
const PCA_DIMENSIONS = 64;

export interface PrincipalRequest {
  /** Value of the current stage with `width` features per token. */
  readonly value: string;
  readonly width: number;
  /** Runs the large products. Default: plain JavaScript loops. */
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

/** Projection of tokens into the space of a PCA, computed in the graph. */
export interface FeatureRequest {
  /** Value with one row of features per token. */
  readonly value: string;
  readonly pca: Pca;
  /** Index of the request, unique on the stage. Default 0. */
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

/** A meter that projects tokens to points. */
export function createPointMeter(request: FeatureRequest, batches: readonly Batch[]): PointMeter {
  const { componentCount } = request.pca;
  const { names, ...extension } = extendStage(`features/${request.index ?? 0}`, (o) => ({
    points: projectRows(o, request),
  }));
  const tokenCount = countTokens(batches);
  const points = new Float64Array(tokenCount * componentCount);
  return {
    points,
    reads: [request.value],
    extension: { ...extension, outputs: [names.points] },
    feeds: () => ({}),
    add({ firstToken }, values) {
      points.set(values[names.points]!.data as Float32Array, firstToken * componentCount);
    },
  };
}

/** Projects a value with one row of features per token to `[tokens, componentCount]`. */
export function projectRows(o: StageOps, { value, pca }: Pick<FeatureRequest, 'value' | 'pca'>): Value {
  const { size, componentCount, mean, components } = pca;
  const centred = o.sub(o.rows(o.float(o.value(value)), size), o.tensor('mean', [size], mean));
  return o.matMul(centred, o.tensor('components', [size, componentCount], components));
}
