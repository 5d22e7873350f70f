import type { GraphProto, NodeProto } from 'onnx-buf';

/** Replaces nodes by others; the graph remains in topological order. */
export function replaceNodes(graph: GraphProto, replaced: ReadonlyMap<NodeProto, readonly NodeProto[]>): void {
  const nodes = graph.node.flatMap((node) => replaced.get(node) ?? [node]);
  graph.node.splice(0, graph.node.length, ...nodes);
}
