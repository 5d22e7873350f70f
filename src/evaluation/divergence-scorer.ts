import type { NodeProto } from 'onnx-buf';
import { makeFloatInitializer, makeInt64Initializer, makeNode, makeValueInfo } from '../onnx/build.js';
import { BOOL, FLOAT32 } from '../onnx/data-types.js';
import { encodeGraph } from '../onnx/encode-graph.js';
import { dataTypeOf, type Engine } from '../runtime/engine.js';
import { type LogitsTensor, logitRows } from './decoder.js';

/** Comparison of logits with those of another model, by row. */
export interface DivergenceRows {
  /** KL(reference || model) of every row, in nats. */
  readonly divergence: Float32Array;
  /** Whether both have the same top-1 token, 1 or 0, by row. */
  readonly agrees: Uint8Array;
}

/** Compares rows of logits, computed by the engine. */
export interface DivergenceScorer {
  /** @param reference, model Logits `[R, V]` of the same tokens. */
  score(reference: LogitsTensor, model: LogitsTensor): Promise<DivergenceRows>;
  release(): Promise<void>;
}

/** Largest number of logits of each model that are compared at once (16 MiB; about ten values of that size are alive). */
const ELEMENT_LIMIT = 2 ** 22;

/** Lower bound of log-probabilities: its exp is 0, and the difference of two infinities would be NaN. */
const MIN_LOG_PROBABILITY = -1e4;

/** Compiles a scorer for the types of two models' logits. */
export async function createDivergenceScorer(
  engine: Engine,
  types: { readonly reference: LogitsTensor['type']; readonly model: LogitsTensor['type'] },
): Promise<DivergenceScorer> {
  const session = await engine.load(divergenceGraph(types));
  return {
    async score(reference, model) {
      const [rowCount = 0, width = 1] = reference.dims;
      const rowLimit = Math.max(1, Math.floor(ELEMENT_LIMIT / width));
      const divergence = new Float32Array(rowCount);
      const agrees = new Uint8Array(rowCount);
      for (let start = 0; start < rowCount; start += rowLimit) {
        const end = Math.min(start + rowLimit, rowCount);
        const feeds = { reference: logitRows(reference, start, end), model: logitRows(model, start, end) };
        const results = await session.run(feeds, ['divergence', 'agrees']);
        divergence.set(results.divergence?.data as Float32Array, start);
        agrees.set(results.agrees?.data as Uint8Array, start);
      }
      return { divergence, agrees };
    },
    release: () => session.release(),
  };
}

function divergenceGraph(types: Readonly<Record<'reference' | 'model', LogitsTensor['type']>>): Uint8Array {
  const node = (op: string, inputs: string[], output: string, attributes = {}): NodeProto =>
    makeNode({ op, inputs, outputs: [output], attributes });
  const nodesOf = (name: 'reference' | 'model') => [
    node('Cast', [name], `${name}.wide`, { to: FLOAT32 }),
    node('LogSoftmax', [`${name}.wide`], `${name}.raw`, { axis: -1 }),
    node('Max', [`${name}.raw`, 'least'], `${name}.log`),
    node('ArgMax', [`${name}.wide`], `${name}.best`, { axis: -1, keepdims: 0 }),
  ];
  return encodeGraph({
    name: 'divergence-scorer',
    node: [
      ...nodesOf('reference'),
      ...nodesOf('model'),
      node('Exp', ['reference.log'], 'probability'),
      node('Sub', ['reference.log', 'model.log'], 'ratio'),
      node('Mul', ['probability', 'ratio'], 'term'),
      node('ReduceSum', ['term', 'axis'], 'divergence', { keepdims: 0 }),
      node('Equal', ['reference.best', 'model.best'], 'agrees'),
    ],
    initializer: [
      makeFloatInitializer('least', [], Float32Array.of(MIN_LOG_PROBABILITY)),
      makeInt64Initializer('axis', [-1]),
    ],
    input: [
      makeValueInfo('reference', dataTypeOf(types.reference), ['rows', 'vocabulary']),
      makeValueInfo('model', dataTypeOf(types.model), ['rows', 'vocabulary']),
    ],
    output: [makeValueInfo('divergence', FLOAT32, ['rows']), makeValueInfo('agrees', BOOL, ['rows'])],
  });
}
