import type { NodeProto } from 'onnx-buf';
import { makeNode } from './build.js';
import { qualifiedOp } from './graph-index.js';

/**
 * The nodes without `Where(IsNaN(x), constant, x)`, which exporters add after attention's softmax for fully masked
 * rows. Windows here have no padding, and the guard takes a tenth of a block's time. Any other NaN is detected when it
 * is measured.
 */
export function dropNanGuards(nodes: readonly NodeProto[]): NodeProto[] {
  const checked = new Map(
    nodes.filter((node) => qualifiedOp(node) === 'IsNaN').map(({ input, output }) => [output[0], input[0]]),
  );
  return nodes.map((node) => {
    const [condition, , value = ''] = node.input;
    if (qualifiedOp(node) !== 'Where' || checked.get(condition) !== value) return node;
    return makeNode({ op: 'Identity', name: node.name, inputs: [value], outputs: node.output });
  });
}
