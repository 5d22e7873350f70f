import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType as AttributeType,
  type ModelProto,
  ModelProtoSchema,
  type NodeProtoSchema,
  type TensorProtoSchema,
  type ValueInfoProtoSchema,
} from 'onnx-buf';
import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import type { OnnxModel } from '../../src/onnx/onnx-model.js';

type Init<S extends Parameters<typeof create>[0]> = MessageInitShape<S>;

export interface SmallModel {
  readonly initializer?: readonly Init<typeof TensorProtoSchema>[];
  readonly node?: readonly Init<typeof NodeProtoSchema>[];
  readonly irVersion?: bigint;
}

/** A graph `y = x + w` (four floats) with further initializers and nodes. */
export function smallModel({ initializer = [], node = [], irVersion = 10n }: SmallModel = {}): ModelProto {
  return create(ModelProtoSchema, {
    irVersion,
    opsetImport: [{ domain: '', version: 21n }],
    producerName: 'test',
    graph: {
      name: 'small',
      node: [{ opType: 'Add', name: 'add', input: ['x', 'w'], output: ['y'] }, ...node] as Init<
        typeof NodeProtoSchema
      >[],
      initializer: [floatTensor('w', [4], [1, -2, 0.5, 1e-3]), ...initializer] as Init<typeof TensorProtoSchema>[],
      input: [floatValue('x')],
      output: [floatValue('y')],
    },
  });
}

/** A float32 tensor in raw form. */
export function floatTensor(name: string, dims: readonly number[], values: ArrayLike<number>) {
  return { name, dataType: 1, dims: dims.map(BigInt), rawData: rawFloats(values) } satisfies Init<
    typeof TensorProtoSchema
  >;
}

export function rawFloats(values: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Float32Array.from(values).buffer);
}

/** External-data entries of a tensor. */
export function externalIn(entries: Readonly<Record<string, string>>) {
  return { dataLocation: 1, externalData: Object.entries(entries).map(([key, value]) => ({ key, value })) };
}

/** A Constant node that makes `output`. */
export function constantNode(output: string, t: Init<typeof TensorProtoSchema>): Init<typeof NodeProtoSchema> {
  return {
    opType: 'Constant',
    name: `${output}_node`,
    output: [output],
    attribute: [{ name: 'value', type: AttributeType.TENSOR, t }],
  };
}

export function encode(model: ModelProto): Uint8Array<ArrayBuffer> {
  return toBinary(ModelProtoSchema, model);
}

/** Loads bytes as `model.onnx` of a folder with `files`. */
export function loadBytes(bytes: Uint8Array, files: Readonly<Record<string, Uint8Array>> = {}): Promise<OnnxModel> {
  return loadModel(bytesSource('model.onnx', bytes), createMemoryFolder('folder', new Map(Object.entries(files))));
}

function floatValue(name: string): Init<typeof ValueInfoProtoSchema> {
  return {
    name,
    type: {
      value: {
        case: 'tensorType',
        value: { elemType: 1, shape: { dim: [{ value: { case: 'dimValue', value: 4n } }] } },
      },
    },
  };
}

/** A generator of numbers in [0, 1) that repeats itself (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
