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
import { makeFloatInitializer, makeInitializer, makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { encodeDetached } from '../../src/onnx/encode-model.js';
import { createOrtEngine } from '../../src/runtime/ort-engine.js';
import type { OrtModule } from '../../src/runtime/ort-module.js';
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

  it('reads large weights from any buffer outside the graph', async () => {
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

  it('names a file that it cannot load', async () => {
    await expect(testEngine.loadFile?.('no-such-model.onnx')).rejects.toThrow(/no-such-model\.onnx/);
  });

  it('throws an EngineError if ONNX Runtime refuses a model', async () => {
    const loading = testEngine.load(new Uint8Array([1, 2, 3]));
    await expect(loading).rejects.toThrow(EngineError);
    await expect(loading).rejects.toThrow(/ONNX Runtime .*protobuf/is);
  });

  it('names the loaded version if a graph needs a newer one', async () => {
    const model = { ...modelOf([makeNode({ op: 'Add', inputs: ['x', 'x'], outputs: ['y'] })]), irVersion: 99n };
    await expect(testEngine.load(toBinary(ModelProtoSchema, model))).rejects.toThrow(
      new RegExp(`ONNX Runtime ${testEngine.version} is loaded; IR version 99 needs a newer one`),
    );
  });

  it('reads inputs and outputs from the model, and loads only bytes, before 1.22', async () => {
    const engine = createOrtEngine(RUNTIME_OF_1_21);
    expect(engine.loadFile).toBeUndefined();
    const weight = makeFloatInitializer('w', [1], [2]);
    const model = modelOf([makeNode({ op: 'Mul', inputs: ['x', 'w'], outputs: ['y'] })], [weight]);
    model.graph!.input.push(makeValueInfo('w', 1, [1]), makeValueInfo('halves', 10, [2, 'past']));
    const session = await engine.load(toBinary(ModelProtoSchema, model));
    expect(session.inputs).toEqual([
      { name: 'x', type: 'float32', dims: ['n'] },
      { name: 'halves', type: 'float16', dims: [2, 'past'] },
    ]);
    expect(session.outputs).toEqual([{ name: 'y', type: 'float32', dims: ['n'] }]);
  });
});

it('refuses an ONNX Runtime before 1.21', () => {
  const old = { ...RUNTIME_OF_1_21, env: { versions: { node: '1.20.1' } } };
  expect(() => createOrtEngine(old)).toThrow(EngineError);
  expect(() => createOrtEngine(old)).toThrow('it is 1.20.1, and 1.21 or newer is needed');
});

/** The part of onnxruntime-node 1.21 that identifies it. */
const RUNTIME_OF_1_21: OrtModule = {
  InferenceSession: {
    prototype: { inputNames: [] },
    create: async () => ({ run: async () => ({}), release: async () => undefined }),
  },
  Tensor: class {
    readonly dims = [0];
    readonly data: unknown;
    constructor(readonly type: string) {
      this.data = type === 'uint8' ? new Uint8Array() : new Float32Array();
    }
  },
};
