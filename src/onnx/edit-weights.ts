import { create } from '@bufbuild/protobuf';
import { TensorProtoSchema } from 'onnx-buf';
import type { OnnxModel, TensorHandle } from './onnx-model.js';

/** Adds a weight, or replaces the one of that name, in the graph's list and in the handles alike. */
export function setWeight(model: OnnxModel, name: string, handle: TensorHandle): void {
  const initializers = model.proto.graph?.initializer ?? [];
  const entry = create(TensorProtoSchema, { name, dataType: handle.dataType, dims: handle.dims.map(BigInt) });
  const at = initializers.findIndex((tensor) => tensor.name === name);
  if (at < 0) initializers.push(entry);
  else initializers[at] = { ...initializers[at]!, dims: entry.dims, dataType: entry.dataType };
  model.weights.set(name, handle);
}

/** A copy whose graph and list of weights can be edited; payloads are shared. */
export function cloneModel(model: OnnxModel, cloneProto: (proto: OnnxModel['proto']) => OnnxModel['proto']): OnnxModel {
  return { proto: cloneProto(model.proto), weights: new Map(model.weights) };
}
