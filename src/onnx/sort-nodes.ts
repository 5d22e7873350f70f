import type { GraphProto, NodeProto } from 'onnx-buf';
import { ModelFormatError } from '../errors.js';
import { inputsOf, subgraphsOf } from './graph-index.js';

/**
 * Sorts nodes topologically, in place. ONNX requires that order, but some converters append casts at the end, and ONNX
 * Runtime accepts them. Sorted nodes are not moved. Subgraphs are sorted too.
 * @throws ModelFormatError for cycles.
 */
export function sortNodes(graph: GraphProto, modelName: string): void {
  for (const inner of graph.node.flatMap(subgraphsOf)) sortNodes(inner, modelName);
  const producerOf = new Map(graph.node.flatMap((node) => node.output.map((value) => [value, node] as const)));
  const sorted = new Set<NodeProto>();
  for (const node of graph.node) {
    // An explicit stack instead of recursion: graphs are thousands of nodes deep.
    const open = [node];
    const isOpen = new Set(open);
    for (let last = open.at(-1); last !== undefined; last = open.at(-1)) {
      const missing = inputsOf(last)
        .map((value) => producerOf.get(value))
        .find((producer) => producer !== undefined && !sorted.has(producer));
      if (missing === undefined) sorted.add(open.pop()!);
      else if (isOpen.has(missing)) {
        throw new ModelFormatError(
          `${modelName}: node "${missing.name || missing.output[0]}" depends on its own output. Export the model again.`,
        );
      } else {
        open.push(missing);
        isOpen.add(missing);
      }
    }
  }
  graph.node = [...sorted];
}
