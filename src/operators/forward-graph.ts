import type { NodeProto, TensorProto } from 'onnx-buf';

/** A forward graph: nodes in topological order, without subgraphs and model-local functions on the path of gradients. */
export interface ForwardGraph {
  readonly nodes: readonly NodeProto[];
  /** By name; only one-element payloads are ever read. */
  readonly initializers: ReadonlyMap<string, TensorProto>;
  /** Version of ONNX's own operators that the model imports, at least 11. */
  readonly opset: number;
}
