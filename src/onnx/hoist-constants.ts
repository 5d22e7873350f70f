import type { GraphProto, NodeProto, TensorProto } from 'onnx-buf';
import { expectedByteLength } from './tensor-handle.js';
import { isExternal, isString, shapeOf } from './tensor-payload.js';

/** Constants from this size on are weights, not shapes or scalars. */
const HOISTED_BYTES = 1024;

/** The first IR version whose initializers need not be listed as graph inputs too. */
export const HOISTING_IR_VERSION = 4n;

/**
 * Replaces Constant nodes with large or external tensors by initializers named after the nodes' outputs. Subgraphs are
 * unchanged.
 * @throws ModelFormatError when a tensor's shape is impossible.
 */
export function hoistConstants(graph: GraphProto, modelName: string): readonly TensorProto[] {
  const hoisted: TensorProto[] = [];
  graph.node = graph.node.filter((node) => {
    const tensor = constantTensor(node);
    const [output] = node.output;
    if (!tensor || !output || isString(tensor) || !isLarge(tensor, modelName)) return true;
    tensor.name = output;
    hoisted.push(tensor);
    return false;
  });
  return hoisted;
}

function constantTensor(node: NodeProto): TensorProto | undefined {
  const isConstant = node.opType === 'Constant' && (node.domain === '' || node.domain === 'ai.onnx');
  return isConstant ? node.attribute.find(({ name }) => name === 'value')?.t : undefined;
}

function isLarge(tensor: TensorProto, modelName: string): boolean {
  return isExternal(tensor) || expectedByteLength(shapeOf(tensor, modelName)) >= HOISTED_BYTES;
}
