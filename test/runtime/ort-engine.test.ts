import { create, toBinary } from '@bufbuild/protobuf';
import {
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  ValueInfoProtoSchema,
} from 'onnx-buf';
import { EngineError } from '../../src/errors.js';
import { makeInitializer } from '../../src/graph/build.js';
import { encodeDetached } from '../../src/onnx/encode-model.js';
import { testEngine } from '../support/engine.js';

const valueInfo = (name: string) =>
  create(ValueInfoProtoSchema, {
    name,
    type: {
      value: {
        case: 'tensorType',
        value: { elemType: 1, shape: { dim: [{ value: { case: 'dimParam', value: 'n' } }] } },
      },
    },
  });

describe('createOrtEngine', () => {
  it('runs a graph on host typed arrays', async () => {
    const model = create(ModelProtoSchema, {
      irVersion: 8n,
      opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: 17n })],
      graph: create(GraphProtoSchema, {
        name: 'g',
        node: [create(NodeProtoSchema, { opType: 'Add', input: ['x', 'x'], output: ['y'] })],
        input: [valueInfo('x')],
        output: [valueInfo('y')],
      }),
    });
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
    const model = create(ModelProtoSchema, {
      irVersion: 8n,
      opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: 17n })],
      graph: create(GraphProtoSchema, {
        name: 'g',
        node: [
          create(NodeProtoSchema, { opType: 'Add', input: ['x', 'large'], output: ['sum'] }),
          create(NodeProtoSchema, { opType: 'Mul', input: ['sum', 'small'], output: ['y'] }),
        ],
        initializer: [
          makeInitializer('large', 1, [600], part),
          makeInitializer('small', 1, [1], new Uint8Array(Float32Array.of(2).buffer)),
        ],
        input: [valueInfo('x')],
        output: [valueInfo('y')],
      }),
    });
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
