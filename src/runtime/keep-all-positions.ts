import type { GraphProto, NodeProto } from 'onnx-buf';
import { intAttribute } from '../onnx/attributes.js';
import { makeNode } from '../onnx/build.js';
import { qualifiedOp } from '../onnx/graph-index.js';
import { operatorOf } from '../operators/table.js';

/**
 * Removes the selection of the last token's hidden state before the LM head, in graphs that declare logits of one token: a
 * next-token loss needs those of all tokens. Values keep their names.
 */
export function keepAllPositions(nodes: readonly NodeProto[], { input, output }: GraphProto): NodeProto[] {
  const logits = output.find(({ name }) => name === 'logits') ?? output[0];
  const isFixed = input.some((info) => sizeOf(info, 1) === 1n && !info.name.includes('past'));
  if (logits === undefined || sizeOf(logits, 1) !== 1n || isFixed) return [...nodes];
  const bypassed = findSelection(nodes, logits.name);
  return nodes.map((node) =>
    bypassed.has(node)
      ? makeNode({ op: 'Identity', name: node.name, inputs: [node.input[0] ?? ''], outputs: node.output })
      : node,
  );
}

const RANK_CHANGES: ReadonlySet<string> = new Set(['Squeeze', 'Unsqueeze']);

/** The node between hidden states and logits that selects one token, and those that only remove or restore its axis. */
function findSelection(nodes: readonly NodeProto[], logits: string): ReadonlySet<NodeProto> {
  const producers = new Map(nodes.flatMap((node) => node.output.map((value) => [value, node] as const)));
  const bypassed = new Set<NodeProto>();
  for (let node = producers.get(logits); node !== undefined; node = producers.get(node.input[0] ?? '')) {
    const op = qualifiedOp(node);
    const tokens = operatorOf(node)?.tokens;
    if (op === 'Slice' || (op === 'Gather' && intAttribute(node, 'axis', 0) === 1)) return bypassed.add(node);
    if (RANK_CHANGES.has(op)) bypassed.add(node);
    else if (tokens !== 'each' && tokens !== 'product') break;
  }
  return new Set();
}

function sizeOf({ type }: GraphProto['input'][number], axis: number): bigint | undefined {
  const shape = type?.value.case === 'tensorType' ? type.value.value.shape : undefined;
  const size = shape?.dim[axis]?.value;
  return size?.case === 'dimValue' ? size.value : undefined;
}
