import type { NodeProto, TensorProto } from 'onnx-buf';
import { FLOAT32, FLOAT64 } from './value.js';

/** Reads one-element float constants of a graph: initializers with their payload inside, and Constant nodes. */
export type ConstantReader = (name: string) => number | undefined;

/** Indexes the constants of a graph by value name. */
export function createConstantReader(
  nodes: readonly NodeProto[],
  initializers: ReadonlyMap<string, TensorProto>,
): ConstantReader {
  const constants = new Map(
    nodes.filter(({ opType }) => opType === 'Constant').map((node) => [node.output[0] ?? '', node]),
  );
  return (name) => {
    const initializer = initializers.get(name);
    if (initializer !== undefined) return readScalar(initializer);
    const [attribute] = constants.get(name)?.attribute ?? [];
    if (attribute?.name === 'value_float') return attribute.f;
    return attribute?.t && readScalar(attribute.t);
  };
}

/** float16 is left out: its scalars are only ever exponents, which the general rules handle as well. */
function readScalar(tensor: TensorProto): number | undefined {
  const { dataType, rawData, floatData, doubleData } = tensor;
  if (tensor.dims.some((dim) => dim !== 1n)) return undefined;
  if (dataType === FLOAT32 && floatData.length === 1) return floatData[0];
  if (dataType === FLOAT64 && doubleData.length === 1) return doubleData[0];
  const view = rawData && new DataView(rawData.buffer, rawData.byteOffset, rawData.byteLength);
  if (dataType === FLOAT32 && view?.byteLength === 4) return view.getFloat32(0, true);
  if (dataType === FLOAT64 && view?.byteLength === 8) return view.getFloat64(0, true);
  return undefined;
}
