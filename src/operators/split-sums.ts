import type { NodeProto } from 'onnx-buf';
import { operatorOf } from './table.js';

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
