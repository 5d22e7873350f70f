import type { GraphProto, NodeProto } from 'onnx-buf';
import { intAttribute } from '../onnx/attributes.js';
import { makeNode } from '../onnx/build.js';
import { qualifiedOp } from '../onnx/graph-index.js';
import { influencedValues } from '../onnx/partition.js';
import { operatorOf } from '../operators/table.js';

/**
 * Nodes for runs during pruning: with an explicit residual stream, primitives instead of operators in forms that ONNX Runtime
 * cannot run, and logits of every token. Values keep their names. The saved model keeps its own operators.
 */
export function lowerForRun(graph: GraphProto): NodeProto[] {
  const nodes = lowerOperators(splitSums(graph.node), graph);
  return spreadRotaryTables(keepAllPositions(nodes, graph), graph);
}

/**
 * Splits operators that contain a sum of the residual stream, such as fused norms, so that the stream is a separate value.
 * Values keep their names.
 */
export function splitSums(nodes: readonly NodeProto[]): NodeProto[] {
  return nodes.flatMap((node) => {
    const split = operatorOf(node)?.split;
    return (typeof split === 'function' && split(node)) || [node];
  });
}

/** Lowers operators in forms that ONNX Runtime cannot run to primitives; other nodes are unchanged. */
export function lowerOperators(nodes: readonly NodeProto[], graph: GraphProto): NodeProto[] {
  return nodes.flatMap((node) => {
    const run = operatorOf(node)?.run;
    return (typeof run === 'function' && run(node, graph)) || [node];
  });
}

/**
 * Repeats the angles of ONNX's RotaryEmbedding for every window if the graph computes them for one: ONNX Runtime does not
 * broadcast them over the batch. Values keep their names.
 */
function spreadRotaryTables(nodes: readonly NodeProto[], graph: GraphProto): NodeProto[] {
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

/**
 * Removes the selection of the last token's hidden state before the LM head, in graphs that declare logits of one token: a
 * next-token loss needs those of all tokens. Values keep their names.
 */
function keepAllPositions(nodes: readonly NodeProto[], { input, output }: GraphProto): NodeProto[] {
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
