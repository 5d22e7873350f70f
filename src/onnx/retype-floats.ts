import type { GraphProto, NodeProto, TensorProto, ValueInfoProto } from 'onnx-buf';
import { findAttribute, intAttribute, setIntAttribute } from './attributes.js';
import { BFLOAT16, FLOAT16, FLOAT32 } from './data-types.js';
import { decodeFloats, encodeFloats } from './float-encoding.js';
import { subgraphsOf } from './graph-index.js';

/** Largest float16; constants beyond it stand for infinity, as in masks. */
export const MAX_FLOAT16 = 65504;

export const isHalfPrecision = (dataType: number): boolean => dataType === FLOAT16 || dataType === BFLOAT16;

export const isSingleOrHalfPrecision = (dataType: number): boolean => dataType === FLOAT32 || isHalfPrecision(dataType);

/** Converts a graph from half precision to float32, in place: constants, inputs, outputs and casts. Weight handles are not changed. */
export function convertGraphToSingle(graph: GraphProto): void {
  for (const initializer of graph.initializer)
    if (isHalfPrecision(initializer.dataType)) retypeInitializer(initializer);
  for (const info of [...graph.input, ...graph.output]) if (isHalfPrecision(typeOf(info))) setType(info, FLOAT32);
  convertNodesToSingle(graph.node);
  graph.valueInfo = [];
}

/** Converts nodes from half precision to float32, in place. */
export function convertNodesToSingle(nodes: readonly NodeProto[]): void {
  for (const node of nodes) {
    if (node.opType === 'Cast' && isHalfPrecision(intAttribute(node, 'to', 0))) setIntAttribute(node, 'to', FLOAT32);
    const tensor = findAttribute(node, 'value')?.t;
    if (tensor !== undefined && isHalfPrecision(tensor.dataType)) retypeTensor(tensor, FLOAT32);
    for (const inner of subgraphsOf(node)) convertGraphToSingle(inner);
  }
}

/** Element type of an input or output; 0 for what is not a tensor. */
export const typeOf = ({ type }: ValueInfoProto): number =>
  type?.value.case === 'tensorType' ? type.value.value.elemType : 0;

export function setType({ type }: ValueInfoProto, dataType: number): void {
  if (type?.value.case === 'tensorType') type.value.value.elemType = dataType;
}

/** Converts a constant to another float type; stand-ins for infinity are clamped to float16's range. */
export function retypeTensor(tensor: TensorProto, dataType: number): void {
  const { bytes, type } = floatBytes(tensor);
  const values = decodeFloats(type, bytes);
  tensor.rawData = encodeFloats(dataType, values.map(clampToHalf));
  tensor.floatData = [];
  tensor.int32Data = [];
  tensor.dataType = dataType;
}

export const clampToHalf = (value: number): number =>
  Number.isNaN(value) ? value : Math.min(MAX_FLOAT16, Math.max(-MAX_FLOAT16, value));

/** An initializer may have its contents in the model's weights. */
function retypeInitializer(initializer: TensorProto): void {
  if (initializer.rawData.length > 0 || initializer.int32Data.length > 0) retypeTensor(initializer, FLOAT32);
  else initializer.dataType = FLOAT32;
}

/** Contents of a float tensor, and the type that they are in. */
function floatBytes({ rawData, floatData, int32Data, dataType }: TensorProto) {
  if (rawData.length > 0) return { bytes: Uint8Array.from(rawData), type: dataType };
  if (int32Data.length > 0) return { bytes: new Uint8Array(Uint16Array.from(int32Data).buffer), type: dataType };
  return { bytes: new Uint8Array(Float32Array.from(floatData).buffer), type: FLOAT32 };
}
