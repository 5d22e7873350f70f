import { dropUnusedNodes } from '../onnx/drop-unused.js';
import type { OnnxModel } from '../onnx/onnx-model.js';

/** Drops nodes and initializers that nothing reads after pruning: size computations, originals of copied weights. */
export function tidyModel(model: OnnxModel): void {
  const graph = model.proto.graph;
  if (graph === undefined) return;
  const alive = dropUnusedNodes(graph);
  const declared = new Set(graph.input.map(({ name }) => name));
  graph.initializer = graph.initializer.filter(({ name }) => alive.has(name) || declared.has(name));
  const remaining = new Set(graph.initializer.map(({ name }) => name));
  for (const name of model.weights.keys()) if (!remaining.has(name)) model.weights.delete(name);
  graph.valueInfo = graph.valueInfo.filter(({ name }) => alive.has(name));
}
