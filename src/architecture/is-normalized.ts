import { type GraphIndex, inputsOf, qualifiedOp } from '../onnx/graph-index.js';

/** Norms, and the first operators of unfused norms. */
const NORMS: ReadonlySet<string> = new Set([
  'LayerNormalization',
  'SimplifiedLayerNormalization',
  'com.microsoft.SimplifiedLayerNormalization',
  'RMSNormalization',
  'LpNormalization',
  'ReduceMean',
]);

/** Whether a norm is applied to a value before any other token value is added. */
export function isNormalized(index: GraphIndex, value: string): boolean {
  const forms = new Set([value]);
  for (const form of forms) {
    for (const at of index.consumersOf.get(form) ?? []) {
      const node = index.nodes[at]!;
      if (!inputsOf(node).every((input) => forms.has(input) || index.constants.has(input))) continue;
      if (NORMS.has(qualifiedOp(node))) return true;
      for (const output of node.output) if (output !== '') forms.add(output);
    }
  }
  return false;
}
