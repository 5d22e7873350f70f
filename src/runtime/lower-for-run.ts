import type { GraphProto, NodeProto } from 'onnx-buf';
import { operatorOf } from '../operators/table.js';
import { keepAllPositions } from './keep-all-positions.js';
import { spreadRotaryTables } from './spread-rotary-tables.js';

/**
 * The nodes that run during pruning instead of the model's own: the residual stream made explicit, operators that ONNX Runtime
 * cannot run in the form they have written out in primitives, and logits of every token. Values keep their names.
 * The model that is written keeps the operators it came with.
 */
export function lowerForRun(graph: GraphProto): NodeProto[] {
  const nodes = lowerOperators(splitSums(graph.node), graph);
  return spreadRotaryTables(keepAllPositions(nodes, graph), graph);
}

/**
 * Splits operators that hold a sum of the residual stream inside, such as fused norms, so that the stream is a value of its
 * own. Every value keeps its name. Only the graphs that run during pruning are split, never the model that is written.
 */
export function splitSums(nodes: readonly NodeProto[]): NodeProto[] {
  return nodes.flatMap((node) => {
    const split = operatorOf(node)?.split;
    return (typeof split === 'function' && split(node)) || [node];
  });
}

/** Nodes of a graph with those operators written out that ONNX Runtime cannot run in the form they have, and no others. */
export function lowerOperators(nodes: readonly NodeProto[], graph: GraphProto): NodeProto[] {
  return nodes.flatMap((node) => {
    const run = operatorOf(node)?.run;
    return (typeof run === 'function' && run(node, graph)) || [node];
  });
}
