import type { NodeProto, TensorProto } from 'onnx-buf';
import { findDataType } from '../onnx/data-types.js';
import { decodeFloats, isFloatType } from '../onnx/float-encoding.js';
import { typedElementBytes } from '../onnx/typed-elements.js';

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

function readScalar(tensor: TensorProto): number | undefined {
  const { dataType, rawData } = tensor;
  const type = findDataType(dataType);
  if (type === undefined || !isFloatType(dataType) || tensor.dims.some((dim) => dim !== 1n)) return undefined;
  const bytes = rawData?.length ? rawData : typedElementBytes(tensor, type);
  return bytes.length * 8 === type.bits ? decodeFloats(dataType, bytes)[0] : undefined;
}
