import type { GraphProto, NodeProto } from 'onnx-buf';
import { findAttribute } from './attributes.js';

/** Head size of a fused attention, as the weight of the linear map that reads its result implies it. */
export function impliedHeadSize(node: NodeProto, graph: GraphProto): number | undefined {
  const heads = Number(findAttribute(node, 'num_heads')?.i ?? 0n);
  const reader = graph.node.find(({ opType, input }) => opType === 'MatMul' && input[0] === node.output[0]);
  const [channels] = dimsOf(reader?.input[1], graph) ?? [];
  return channels === undefined || heads === 0 ? undefined : channels / heads;
}

/** Dims of an initializer. */
export function dimsOf(name: string | undefined, { initializer }: GraphProto): number[] | undefined {
  return initializer.find((tensor) => tensor.name === name)?.dims.map(Number);
}
