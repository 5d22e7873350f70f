import type { NodeProto, TensorProto } from 'onnx-buf';
import { makeFloatInitializer, makeInt64Initializer, makeNode } from '../graph/build.js';
import type { Pca } from '../linalg/pca.js';
import type { BlockRunner } from '../runtime/block-runner.js';

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
export async function projectFeatures(runner: BlockRunner, request: FeatureRequest): Promise<Float64Array> {
  const { value, pca } = request;
  const extension = { ...projectionNodes(request, 'features/points'), inputs: [], outputs: ['features/points'] };
  const tokenCount = runner.batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const points = new Float64Array(tokenCount * pca.componentCount);
  let filled = 0;
  for await (const { values } of runner.observe({ fetches: [], reads: [value], extension })) {
    const batch = values['features/points']!.data as Float32Array;
    points.set(batch, filled);
    filled += batch.length;
  }
  return points;
}

/** What makes points, `[tokens, componentCount]`, of a value with one row of features a token. */
export function projectionNodes(
  { value, pca }: FeatureRequest,
  points: string,
): { readonly nodes: readonly NodeProto[]; readonly initializers: readonly TensorProto[] } {
  const { size, componentCount } = pca;
  const name = (what: string) => `features/${what}`;
  return {
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
