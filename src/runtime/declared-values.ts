import { fromBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema, type ValueInfoProto } from 'onnx-buf';
import { type DeclaredValue, typeOf } from './engine.js';

/** Inputs and outputs that a serialized model declares, for runtimes whose sessions do not list them. */
export function readDeclaredValues(model: Uint8Array): {
  readonly inputs: readonly DeclaredValue[];
  readonly outputs: readonly DeclaredValue[];
} {
  const { graph } = fromBinary(ModelProtoSchema, model);
  const weights = new Set(graph?.initializer.map(({ name }) => name));
  return {
    inputs: (graph?.input ?? []).filter(({ name }) => !weights.has(name)).map(toDeclaredValue),
    outputs: (graph?.output ?? []).map(toDeclaredValue),
  };
}

function toDeclaredValue({ name, type }: ValueInfoProto): DeclaredValue {
  if (type?.value.case !== 'tensorType') return { name, type: 'sequence', dims: [] };
  const { elemType, shape } = type.value.value;
  const dims = (shape?.dim ?? []).map(({ value }) =>
    value.case === 'dimValue' ? Number(value.value) : (value.value ?? ''),
  );
  return { name, type: typeOf(elemType) ?? `data type ${elemType}`, dims };
}
