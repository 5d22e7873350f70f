import { create, toBinary } from '@bufbuild/protobuf';
import {
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  OperatorSetIdProtoSchema,
  type TensorProto,
} from 'onnx-buf';
import { EngineError } from '../../src/errors.js';
import { makeFloatInitializer, makeInitializer, makeNode, makeValueInfo } from '../../src/graph/build.js';
import { encodeDetached } from '../../src/onnx/encode-model.js';
import { testEngine } from '../support/engine.js';

/** A model from a vector `x` to `y`. */
function modelOf(node: NodeProto[], initializer: TensorProto[] = []): ModelProto {
  const [input, output] = [[makeValueInfo('x', 1, ['n'])], [makeValueInfo('y', 1, ['n'])]];
  const opsetImport = [create(OperatorSetIdProtoSchema, { domain: '', version: 17n })];
  const graph = create(GraphProtoSchema, { name: 'g', node, initializer, input, output });
  return create(ModelProtoSchema, { irVersion: 8n, opsetImport, graph });
}

describe('createOrtEngine', () => {
  it('runs a graph on host typed arrays', async () => {
    const model = modelOf([makeNode({ op: 'Add', inputs: ['x', 'x'], outputs: ['y'] })]);
    const session = await testEngine.load(toBinary(ModelProtoSchema, model));
    expect(session.inputs).toEqual([{ name: 'x', type: 'float32', dims: ['n'] }]);
    expect(session.outputs.map(({ name }) => name)).toEqual(['y']);
    const { y } = await session.run({ x: { type: 'float32', dims: [2], data: Float32Array.of(1, 2) } });
    expect(y?.data).toEqual(Float32Array.of(2, 4));
    await session.release();
  });

  it('takes large weights beside the graph, wherever in memory they lie', async () => {
    const values = Float32Array.from({ length: 600 }, (_, at) => at);
    const memory = new Uint8Array(64 + values.byteLength + 64);
    memory.set(new Uint8Array(values.buffer), 64);
    const part = memory.subarray(64, 64 + values.byteLength);
    const model = modelOf(
      [
        makeNode({ op: 'Add', inputs: ['x', 'large'], outputs: ['sum'] }),
        makeNode({ op: 'Mul', inputs: ['sum', 'small'], outputs: ['y'] }),
      ],
      [makeInitializer('large', 1, [600], part), makeFloatInitializer('small', [1], [2])],
    );
    const { bytes, weights } = encodeDetached(model);
    expect([...weights.values()]).toEqual([part]);
    expect(bytes.byteLength).toBeLessThan(values.byteLength);
    const session = await testEngine.load(bytes, { weights });
    const { y } = await session.run({ x: { type: 'float32', dims: [1], data: Float32Array.of(1) } });
    expect(y?.data).toEqual(values.map((value) => 2 * (value + 1)));
    await session.release();
    await expect(testEngine.load(bytes)).rejects.toThrow(EngineError);
  });

  it('loads a file and names it when it cannot', async () => {
    await expect(testEngine.loadFile?.('no-such-model.onnx')).rejects.toThrow(/no-such-model\.onnx/);
  });

  it('turns a refusal into an EngineError with what ONNX Runtime said', async () => {
    await expect(testEngine.load(new Uint8Array([1, 2, 3]))).rejects.toThrow(EngineError);
  });
});
