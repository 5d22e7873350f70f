import type { NodeProto } from 'onnx-buf';
import { makeNode, makeValueInfo } from '../graph/build.js';
import { encodeGraph } from '../graph/encode-graph.js';
import { type MultiplyTransposed, multiplyTransposed } from '../linalg/multiply-transposed.js';
import { dataTypeOf, type Engine, type Session } from './engine.js';

/** Large products of float64 matrices on an engine. */
export interface EngineMultiply {
  readonly multiply: MultiplyTransposed;
  /** As `multiply`, of operands rounded to float32 and in half the time, where few digits are enough. */
  readonly multiplySingle: MultiplyTransposed;
  release(): Promise<void>;
}

/** Products of fewer multiplications than this are done sooner here than handed over. */
const SMALLEST_PRODUCT = 2 ** 20;

/**
 * Runs the products that factorisations are built from on an engine; small ones stay in JavaScript. Where the engine has no
 * float64 product (some execution providers), all of them do.
 */
export function createEngineMultiply(engine: Engine): EngineMultiply {
  const double = createProduct(engine, DOUBLE);
  const single = createProduct(engine, SINGLE);
  return {
    multiply: double.multiply,
    multiplySingle: single.multiply,
    async release() {
      await double.release();
      await single.release();
    },
  };
}

function createProduct(engine: Engine, nodes: readonly NodeProto[]): Pick<EngineMultiply, 'multiply' | 'release'> {
  let opened: Promise<Session | undefined> | undefined;
  return {
    async multiply(left, right, shape) {
      const { rows, columns, inner } = shape;
      if (rows * columns * inner < SMALLEST_PRODUCT) return multiplyTransposed(left, right, shape);
      opened ??= engine.load(productGraph(nodes)).catch(() => undefined);
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

const node = (op: string, inputs: readonly string[], output: string, attributes = {}): NodeProto =>
  makeNode({ op, inputs, outputs: [output], attributes });

const FLOAT64 = dataTypeOf('float64');
const FLOAT32 = dataTypeOf('float32');

const DOUBLE: readonly NodeProto[] = [
  node('Transpose', ['right'], 'columns', { perm: [1, 0] }),
  node('MatMul', ['left', 'columns'], 'product'),
];

const SINGLE: readonly NodeProto[] = [
  node('Cast', ['left'], 'rounded_left', { to: FLOAT32 }),
  node('Cast', ['right'], 'rounded_right', { to: FLOAT32 }),
  node('Gemm', ['rounded_left', 'rounded_right'], 'rounded', { transB: 1 }),
  node('Cast', ['rounded'], 'product', { to: FLOAT64 }),
];

function productGraph(nodes: readonly NodeProto[]): Uint8Array {
  return encodeGraph({
    name: 'product',
    node: [...nodes],
    input: [makeValueInfo('left', FLOAT64, ['rows', 'inner']), makeValueInfo('right', FLOAT64, ['columns', 'inner'])],
    output: [makeValueInfo('product', FLOAT64, ['rows', 'columns'])],
  });
}
