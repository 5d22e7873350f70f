import { create, toBinary } from '@bufbuild/protobuf';
import {
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  OperatorSetIdProtoSchema,
  type TensorProto,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from 'onnx-buf';
import { makeValueInfo } from '../../src/onnx/build.js';
import type { Session, Tensors } from '../../src/runtime/engine.js';
import { testEngine } from './engine.js';

/** ONNX data type numbers of engine tensor types. */
export const DATA_TYPES = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  float64: 11,
} as const;

/** A graph to run; `inputs` give the declared types and dims. */
export interface GraphParts {
  readonly nodes: readonly NodeProto[];
  readonly initializers?: readonly TensorProto[];
  readonly inputs: Tensors;
  readonly outputs: readonly string[];
  /** Declared types of values between them. */
  readonly declared?: readonly ValueInfoProto[];
  /** Default 21. */
  readonly opset?: number;
}

/** Compiles a graph node by node as it stands, with ONNX's and ONNX Runtime's own operators. */
export function loadGraph({
  nodes,
  initializers = [],
  inputs,
  outputs,
  declared = [],
  opset = 21,
}: GraphParts): Promise<Session> {
  const proto = create(ModelProtoSchema, {
    irVersion: 10n,
    opsetImport: [
      create(OperatorSetIdProtoSchema, { domain: '', version: BigInt(opset) }),
      create(OperatorSetIdProtoSchema, { domain: 'com.microsoft', version: 1n }),
    ],
    graph: create(GraphProtoSchema, {
      name: 'test',
      node: [...nodes],
      initializer: [...initializers],
      input: Object.entries(inputs).map(([name, tensor]) => makeValueInfo(name, DATA_TYPES[tensor.type], tensor.dims)),
      valueInfo: [...declared],
      output: outputs.map((name) => create(ValueInfoProtoSchema, { name })),
    }),
  });
  return testEngine.load(toBinary(ModelProtoSchema, proto), { optimization: 'none' });
}

/** Loads a graph, runs it once on its inputs and frees it. */
export async function runGraph(parts: GraphParts): Promise<Tensors> {
  const session = await loadGraph(parts);
  try {
    return await session.run(parts.inputs);
  } finally {
    await session.release();
  }
}
