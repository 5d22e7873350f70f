import { makeNode, makeValueInfo } from '../graph/build.js';
import { encodeGraph } from '../graph/encode-graph.js';
import { type MultiplyTransposed, multiplyTransposed } from '../linalg/multiply-transposed.js';
import { dataTypeOf, type Engine, type Session } from './engine.js';

/** Large float64 products on an engine. */
export interface EngineMultiply {
  readonly multiply: MultiplyTransposed;
  release(): Promise<void>;
}

/** Products of fewer multiplications than this are done sooner here than handed over. */
const SMALLEST_PRODUCT = 2 ** 20;

/**
 * Runs the products that factorisations are built from on an engine, in float64; small ones stay in JavaScript. Where the
 * engine has no float64 product (some execution providers), all of them do.
 */
export function createEngineMultiply(engine: Engine): EngineMultiply {
  let opened: Promise<Session | undefined> | undefined;
  return {
    async multiply(left, right, shape) {
      const { rows, columns, inner } = shape;
      if (rows * columns * inner < SMALLEST_PRODUCT) return multiplyTransposed(left, right, shape);
      opened ??= engine.load(productGraph()).catch(() => undefined);
      const session = await opened;
      if (session === undefined) return multiplyTransposed(left, right, shape);
      const { product } = await session.run({
        left: { type: 'float64', dims: [rows, inner], data: left },
        right: { type: 'float64', dims: [columns, inner], data: right },
      });
      return product!.data as Float64Array;
    },
    release: async () => (await opened)?.release(),
  };
}

function productGraph(): Uint8Array {
  const float64 = dataTypeOf('float64');
  return encodeGraph({
    name: 'product',
    node: [
      makeNode({ op: 'Transpose', inputs: ['right'], outputs: ['columns'], attributes: { perm: [1, 0] } }),
      makeNode({ op: 'MatMul', inputs: ['left', 'columns'], outputs: ['product'] }),
    ],
    input: [makeValueInfo('left', float64, ['rows', 'inner']), makeValueInfo('right', float64, ['columns', 'inner'])],
    output: [makeValueInfo('product', float64, ['rows', 'columns'])],
  });
}
