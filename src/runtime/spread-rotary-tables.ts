import type { GraphProto, NodeProto } from 'onnx-buf';
import { makeNode } from '../onnx/build.js';
import { qualifiedOp } from '../onnx/graph-index.js';
import { influencedValues } from '../onnx/partition.js';

/**
 * Repeats the angles of ONNX's RotaryEmbedding for every window if the graph computes them for one: ONNX Runtime does not
 * broadcast them over the batch. Values keep their names.
 */
export function spreadRotaryTables(nodes: readonly NodeProto[], graph: GraphProto): NodeProto[] {
  const isStandard = (node: NodeProto) => qualifiedOp(node) === 'RotaryEmbedding' && (node.input[3] ?? '') === '';
  if (!nodes.some(isStandard)) return [...nodes];
  const weights = new Set(graph.initializer.map(({ name }) => name));
  const inputs = graph.input.map(({ name }) => name).filter((name) => !weights.has(name));
  const dependent = influencedValues(nodes, inputs);
  return nodes.flatMap((node) =>
    isStandard(node) && !node.input.slice(1, 3).some((table) => dependent.has(table)) ? spreadTables(node) : [node],
  );
}

function spreadTables({ name, input, output, attribute }: NodeProto): NodeProto[] {
  const [x = '', cos = '', sin = ''] = input;
  const prefix = `${output[0]}/lowered`;
  const [batch, ones, shape] = [`${prefix}/batch`, `${prefix}/ones`, `${prefix}/shape`];
  const tables = [cos, sin].map((table, at) => ({ table, spread: `${prefix}/table_${at}` }));
  return [
    makeNode({ op: 'Shape', inputs: [x], outputs: [batch], attributes: { start: 0, end: 1 } }),
    makeNode({ op: 'Constant', inputs: [], outputs: [ones], attributes: { value_ints: [1, 1] } }),
    makeNode({ op: 'Concat', inputs: [batch, ones], outputs: [shape], attributes: { axis: 0 } }),
    ...tables.map(({ table, spread }) => makeNode({ op: 'Expand', inputs: [table, shape], outputs: [spread] })),
    Object.assign(
      makeNode({ op: 'RotaryEmbedding', name, inputs: [x, ...tables.map(({ spread }) => spread)], outputs: output }),
      { attribute },
    ),
  ];
}
