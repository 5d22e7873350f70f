import { clone, create } from '@bufbuild/protobuf';
import { ModelProtoSchema, TensorProtoSchema } from 'onnx-buf';
import type { OnnxModel, TensorHandle } from './onnx-model.js';

/** Adds or replaces a weight, both in the graph's initializers and in the handles. */
export function setWeight(model: OnnxModel, name: string, handle: TensorHandle): void {
  const initializers = model.proto.graph?.initializer ?? [];
  const { dataType } = handle;
  const dims = handle.dims.map(BigInt);
  const known = initializers.find((tensor) => tensor.name === name);
  if (known === undefined) initializers.push(create(TensorProtoSchema, { name, dataType, dims }));
  else Object.assign(known, { dataType, dims });
  model.weights.set(name, handle);
  for (const info of model.proto.graph?.input ?? []) {
    if (info.name !== name || info.type?.value.case !== 'tensorType') continue;
    info.type.value.value.shape?.dim.forEach((dim, axis) => {
      dim.value = { case: 'dimValue', value: dims[axis] ?? 0n };
    });
  }
}

/** A copy that can be edited in place; payloads of weights are shared. */
export function copyModel(model: OnnxModel): OnnxModel {
  return { ...model, proto: clone(ModelProtoSchema, model.proto), weights: new Map(model.weights) };
}
