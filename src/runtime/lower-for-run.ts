import type { GraphProto, NodeProto } from 'onnx-buf';
import { operatorOf } from '../operators/table.js';
import { keepAllPositions } from './keep-all-positions.js';
import { spreadRotaryTables } from './spread-rotary-tables.js';

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
