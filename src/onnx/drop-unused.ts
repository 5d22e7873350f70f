import type { GraphProto } from 'onnx-buf';
import { inputsOf } from './graph-index.js';

/** Drops nodes whose outputs are not read any more, in place, and returns the values that are still in use. */
export function dropUnusedNodes(graph: GraphProto): Set<string> {
  const alive = new Set(graph.output.map(({ name }) => name));
  const used = graph.node
    .toReversed()
    .filter((node) => {
      const needed = node.output.some((value) => alive.has(value));
      if (needed) for (const value of inputsOf(node)) alive.add(value);
      return needed;
    })
    .toReversed();
  graph.node.splice(0, graph.node.length, ...used);
  return alive;
}
