import { create, toBinary } from '@bufbuild/protobuf';
import {
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  ValueInfoProtoSchema,
} from 'onnx-buf';
import { EngineError } from '../../src/errors.js';
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

  it('loads a file and names it when it cannot', async () => {
    await expect(testEngine.loadFile?.('no-such-model.onnx')).rejects.toThrow(/no-such-model\.onnx/);
  });

  it('turns a refusal into an EngineError with what ONNX Runtime said', async () => {
    await expect(testEngine.load(new Uint8Array([1, 2, 3]))).rejects.toThrow(EngineError);
  });
});
