import type { NodeProto } from 'onnx-buf';
import { makeNode } from '../onnx/build.js';
import { createNodeEmitter } from '../onnx/node-emitter.js';
import { createTensorOps } from '../onnx/tensor-ops.js';
import type { ValueFact } from '../onnx/value-facts.js';
import { type Lowering, unsupported } from './gradient-rule.js';

/** Prefix of names of a lowered node's parts, after its first output. */
export const LOWERED = '/lowered/';

/** Opset of lowerings that run: newer forms of operators are not emitted. */
const OPSET = 13;

/**
 * Nodes of a node's lowering, for a graph of unknown sizes: `inputFact` may have open dims. Outputs keep their names.
 */
export function lowerNode(node: NodeProto, lower: Lowering, inputFact: (input: number) => ValueFact): NodeProto[] {
  const emitter = createNodeEmitter(`${node.output[0]}${LOWERED}`);
  const outputs = lower({
    node,
    o: createTensorOps(emitter, OPSET),
    has: (at) => (node.input[at] ?? '') !== '',
    input(at) {
      const name = node.input[at] ?? '';
      if (name === '') throw unsupported(node, `its input ${at} is missing.`);
      return { name, ...inputFact(at) };
    },
  });
  const names = new Map(
    outputs.flatMap((value, at) => (value && node.output[at] ? [[value.name, node.output[at]]] : [])),
  );
  const { nodes, initializers } = emitter.finish([...names.keys()]);
  const constants = initializers.map((tensor) =>
    makeNode({ op: 'Constant', inputs: [], outputs: [tensor.name], attributes: { value: { tensor } } }),
  );
  for (const { input, output } of nodes) {
    for (const values of [input, output])
      values.splice(0, values.length, ...values.map((name) => names.get(name) ?? name));
  }
  return [...constants, ...nodes];
}
