import type { GraphProto, NodeProto } from 'onnx-buf';
import { splitSums } from '../operators/split-sums.js';
import { operatorOf } from '../operators/table.js';
import { keepAllPositions } from './keep-all-positions.js';
import { spreadRotaryTables } from './spread-rotary-tables.js';

/**
 * The nodes that run during pruning instead of the model's own: the residual stream laid bare, operators that ONNX Runtime
 * cannot run in the form they have written out in primitives, and logits of every token. Values keep their names.
 * The model that is written keeps the operators it came with.
 */
export function lowerForRun(graph: GraphProto): NodeProto[] {
  const nodes = lowerOperators(splitSums(graph.node), graph);
  return spreadRotaryTables(keepAllPositions(nodes, graph), graph);
}

/** Nodes of a graph with those operators written out that ONNX Runtime cannot run in the form they have, and no others. */
export function lowerOperators(nodes: readonly NodeProto[], graph: GraphProto): NodeProto[] {
  return nodes.flatMap((node) => {
    const run = operatorOf(node)?.run;
    return (typeof run === 'function' && run(node, graph)) || [node];
  });
}
