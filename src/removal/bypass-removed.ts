import { indexGraph } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { splitSums } from '../runtime/lower-for-run.js';
import { editGraph } from './graph-editor.js';

/**
 * Removes bridges: Identity nodes on the residual stream where modules were removed, given by their outputs. A fused norm
 * whose normalised output only such a module read becomes a plain sum.
 */
export function bypassRemoved(model: OnnxModel, bridges: readonly string[]): void {
  const graph = model.proto.graph;
  if (graph === undefined || bridges.length === 0) return;
  const editor = editGraph(model);
  const outputs = new Set(graph.output.map(({ name }) => name));
  for (const bridge of bridges.filter((name) => !outputs.has(name))) {
    const node = editor.producerOf(bridge);
    if (node !== undefined) editor.rewire(editor.consumersOf(bridge), bridge, node.input[0] ?? '');
  }
  const { consumersOf } = indexGraph(graph);
  const isRead = (value = '') => outputs.has(value) || consumersOf.has(value);
  const nodes = graph.node.flatMap((node) => {
    const [normed = '', , , sum = ''] = node.output;
    if (node.domain !== 'com.microsoft' || isRead(normed) || !isRead(sum)) return [node];
    const lowered = splitSums([node]);
    return lowered.filter(({ output }) => !output.includes(normed));
  });
  graph.node.splice(0, graph.node.length, ...nodes);
}
