import type { GraphProto, NodeProto } from 'onnx-buf';

/**
 * Puts nodes behind those that make what they read, in place. ONNX asks for that order; some converters append casts at the
 * end, and ONNX Runtime takes them. Nodes in order stay where they are.
 */
export function sortNodes(graph: GraphProto): void {
  const producerOf = new Map(graph.node.flatMap((node) => node.output.map((value) => [value, node] as const)));
  // What is absent is made by nobody, though unused outputs are called so too.
  producerOf.delete('');
  const sorted = new Set<NodeProto>();
  for (const node of graph.node) {
    // A list of its own in place of recursion: graphs are thousands of nodes deep.
    const open = [node];
    const isOpen = new Set(open);
    for (let last = open.at(-1); last !== undefined; last = open.at(-1)) {
      const missing = readsOf(last)
        .map((value) => producerOf.get(value))
        .find((producer) => producer !== undefined && !sorted.has(producer) && !isOpen.has(producer));
      if (missing === undefined) sorted.add(open.pop()!);
      else {
        open.push(missing);
        isOpen.add(missing);
      }
    }
  }
  graph.node = [...sorted];
}

/** Values that a node reads, and whatever its subgraphs read. */
function readsOf({ input, attribute }: NodeProto): readonly string[] {
  const graphs = attribute.flatMap(({ g, graphs }) => (g ? [g, ...graphs] : graphs));
  if (graphs.length === 0) return input;
  return [
    ...input,
    ...graphs.flatMap(({ node, output }) => [...node.flatMap(readsOf), ...output.map(({ name }) => name)]),
  ];
}
