import type { GraphProto, NodeProto } from 'onnx-buf';
import { findAttribute } from './attributes.js';
import { subgraphsOf } from './graph-index.js';

/** Operators that keep channels in place, such as a gate between attention and its output projection. */
const CHANNEL_WISE_OPS: ReadonlySet<string> = new Set(['Mul', 'Cast', 'Identity']);

/** Head size of a fused attention, implied by the weight of the linear layer that reads its output. */
export function impliedHeadSize(node: NodeProto, graph: GraphProto): number | undefined {
  const heads = Number(findAttribute(node, 'num_heads')?.i ?? 0n);
  let [value = ''] = node.output;
  let reader = readerOf(value, graph);
  while (reader !== undefined && CHANNEL_WISE_OPS.has(reader.opType)) {
    [value = ''] = reader.output;
    reader = readerOf(value, graph);
  }
  const isLinear = reader?.opType === 'MatMul' && reader.input[0] === value;
  const [channels] = isLinear ? (weightDims(reader?.input[1], graph) ?? []) : [];
  return channels === undefined || heads === 0 ? undefined : channels / heads;
}

const readerOf = (value: string, { node }: GraphProto): NodeProto | undefined =>
  node.find(({ input }) => value !== '' && input.includes(value));

/** Columns of a table `[rows, columns]`: a weight, or an If whose branches have equally wide weights. */
export function tableWidth(name: string | undefined, graph: GraphProto): number | undefined {
  const dims = dimsOf(name, graph);
  if (dims !== undefined) return dims[1];
  const choice = graph.node.find(({ output }) => output.some((value) => value !== '' && value === name));
  if (choice?.opType !== 'If') return undefined;
  const slot = choice.output.indexOf(name!);
  const widths = new Set(subgraphsOf(choice).map((branch) => tableWidth(branch.output[slot]?.name, branch)));
  return widths.size === 1 ? [...widths][0] : undefined;
}

/** Dims of a weight as the product reads it, possibly through a transpose or dequantisation. */
function weightDims(name: string | undefined, graph: GraphProto): number[] | undefined {
  const stored = dimsOf(name, graph);
  if (stored !== undefined) return stored;
  const producer = graph.node.find(({ output }) => output[0] === name && name !== undefined);
  if (producer === undefined || !LAYOUT_OPS.has(producer.opType)) return undefined;
  const dims = weightDims(producer.input[0], graph);
  return producer.opType === 'Transpose' ? dims?.reverse() : dims;
}

const LAYOUT_OPS: ReadonlySet<string> = new Set(['Identity', 'Cast', 'DequantizeLinear', 'Transpose']);

/** Dims of an initializer, of a Constant node's tensor, or of a value with a declared shape. */
function dimsOf(name: string | undefined, { initializer, node, valueInfo }: GraphProto): number[] | undefined {
  const producer = node.find(({ opType, output }) => opType === 'Constant' && output[0] === name);
  const stored =
    initializer.find((tensor) => tensor.name === name) ?? (producer && findAttribute(producer, 'value')?.t);
  if (stored != null) return stored.dims.map(Number);
  const type = valueInfo.find((info) => info.name === name)?.type?.value;
  const dims = type?.case === 'tensorType' ? type.value.shape?.dim.map(({ value }) => Number(value.value)) : undefined;
  return dims?.every((dim) => dim > 0) ? dims : undefined;
}
