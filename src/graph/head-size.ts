import type { GraphProto, NodeProto } from 'onnx-buf';
import { findAttribute } from './attributes.js';

/** Head size of a fused attention, as the weight of the linear map that reads its result implies it. */
export function impliedHeadSize(node: NodeProto, graph: GraphProto): number | undefined {
  const heads = Number(findAttribute(node, 'num_heads')?.i ?? 0n);
  const reader = graph.node.find(({ opType, input }) => opType === 'MatMul' && input[0] === node.output[0]);
  const [channels] = weightDims(reader?.input[1], graph) ?? [];
  return channels === undefined || heads === 0 ? undefined : channels / heads;
}

/** Dims of a weight as the product sees it: stored so, or turned, or dequantised on the way. */
function weightDims(name: string | undefined, graph: GraphProto): number[] | undefined {
  const stored = dimsOf(name, graph);
  if (stored !== undefined) return stored;
  const producer = graph.node.find(({ output }) => output[0] === name && name !== undefined);
  if (producer === undefined || !LAYOUT_OPS.has(producer.opType)) return undefined;
  const dims = weightDims(producer.input[0], graph);
  return producer.opType === 'Transpose' ? dims?.reverse() : dims;
}

const LAYOUT_OPS: ReadonlySet<string> = new Set(['Identity', 'Cast', 'DequantizeLinear', 'Transpose']);

/** Dims of an initializer. */
export function dimsOf(name: string | undefined, { initializer }: GraphProto): number[] | undefined {
  return initializer.find((tensor) => tensor.name === name)?.dims.map(Number);
}
