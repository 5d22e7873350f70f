import { makeFloatInitializer, makeInt64Initializer, makeNode } from '../graph/build.js';
import type { Pca } from '../linalg/pca.js';
import type { BlockRunner } from '../runtime/block-runner.js';
import type { StageExtension } from '../runtime/compile-stage.js';

/** Tokens seen as points in the space of a PCA, which the graph projects them into. */
export interface FeatureRequest {
  /** Value with one row of features a token. */
  readonly value: string;
  readonly pca: Pca;
}

/**
 * Projects a value of the current stage into PCA space, for all tokens.
 * @returns `[tokens, componentCount]` row-major, tokens in the order of the batches.
 */
export async function projectFeatures(runner: BlockRunner, { value, pca }: FeatureRequest): Promise<Float64Array> {
  const { size, componentCount } = pca;
  const extension: StageExtension = {
    nodes: [
      makeNode({ op: 'Cast', inputs: [value], outputs: ['features/float'], attributes: { to: 1 } }),
      makeNode({ op: 'Reshape', inputs: ['features/float', 'features/shape'], outputs: ['features/rows'] }),
      makeNode({ op: 'Sub', inputs: ['features/rows', 'features/mean'], outputs: ['features/centred'] }),
      makeNode({ op: 'MatMul', inputs: ['features/centred', 'features/components'], outputs: ['features/points'] }),
    ],
    initializers: [
      makeInt64Initializer('features/shape', [-1, size]),
      makeFloatInitializer('features/mean', [size], pca.mean),
      makeFloatInitializer('features/components', [size, componentCount], pca.components),
    ],
    inputs: [],
    outputs: ['features/points'],
  };
  const tokenCount = runner.batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const points = new Float64Array(tokenCount * componentCount);
  let filled = 0;
  for await (const { values } of runner.observe({ fetches: [], reads: [value], extension })) {
    const batch = values['features/points']!.data as Float32Array;
    points.set(batch, filled);
    filled += batch.length;
  }
  return points;
}
