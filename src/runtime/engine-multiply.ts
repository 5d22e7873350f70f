import {
  type Entries,
  type MultiplyTransposed,
  multiplyTransposed,
  type ProductShape,
} from '../linalg/multiply-transposed.js';
import { makeNode, makeValueInfo } from '../onnx/build.js';
import { encodeGraph } from '../onnx/encode-graph.js';
import { dataTypeOf, type Engine, type Session, type Tensor } from './engine.js';

/** Large products of matrices on an engine. */
export interface EngineMultiply {
  readonly multiply: MultiplyTransposed;
  release(): Promise<void>;
}

/** Products of fewer multiplications are faster in JavaScript. */
const MIN_PRODUCT = 2 ** 20;

/** Larger products in bytes use a session that does not keep its memory, which would be in use until all products are done. */
const MAX_KEPT = 2 ** 26;

type Precision = 'float32' | 'float64';

/**
 * Runs the matrix products of factorisations on an engine. Small ones run in JavaScript, and all of a type that the engine
 * does not support (float64 with some execution providers).
 */
export function createEngineMultiply(engine: Engine): EngineMultiply {
  const opened = new Map<string, Promise<Session | undefined>>();
  const open = (type: Precision, keepsMemory: boolean): Promise<Session | undefined> => {
    const key = `${type} ${keepsMemory}`;
    const session = opened.get(key) ?? engine.load(productGraph(type), { keepsMemory }).catch(() => undefined);
    opened.set(key, session);
    return session;
  };
  return {
    async multiply<Matrix extends Entries>(left: Matrix, right: Matrix, shape: ProductShape) {
      const { rows, columns, inner } = shape;
      if (rows * columns * inner < MIN_PRODUCT) return multiplyTransposed(left, right, shape);
      const type = left instanceof Float32Array ? 'float32' : 'float64';
      const session = await open(type, rows * columns * left.BYTES_PER_ELEMENT <= MAX_KEPT);
      if (session === undefined) return multiplyTransposed(left, right, shape);
      const { product } = await session.run({
        left: { type, dims: [rows, inner], data: left } as Tensor,
        right: { type, dims: [columns, inner], data: right } as Tensor,
      });
      return product!.data as Entries as Matrix;
    },
    async release() {
      for (const session of opened.values()) await (await session)?.release();
    },
  };
}

function productGraph(type: Precision): Uint8Array {
  const value = (name: string, ...dims: string[]) => makeValueInfo(name, dataTypeOf(type), dims);
  return encodeGraph({
    name: 'product',
    node: [makeNode({ op: 'Gemm', inputs: ['left', 'right'], outputs: ['product'], attributes: { transB: 1 } })],
    input: [value('left', 'rows', 'inner'), value('right', 'columns', 'inner')],
    output: [value('product', 'rows', 'columns')],
  });
}
