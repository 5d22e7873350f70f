import type { GraphIndex } from './graph-index.js';

/** Operators that compute each position independently, where they follow the last block. */
const POSITIONWISE: ReadonlySet<string> = new Set([
  'MatMul',
  'Gemm',
  'Add',
  'Sub',
  'Mul',
  'Div',
  'Pow',
  'Sqrt',
  'Reciprocal',
  'Tanh',
  'Cast',
  'Identity',
  'Constant',
  'Transpose',
  'ReduceMean',
  'LayerNormalization',
  'SimplifiedLayerNormalization',
  'RMSNormalization',
]);

/** Whether a value is computed from another one and constants, position by position. */
export function isPositionwise(
  { nodes, producerOf, inputs }: GraphIndex,
  { from, to }: { readonly from: string; readonly to: string },
): boolean {
  const seen = new Set<string>([from]);
  const open = [to];
  while (open.length > 0) {
    const value = open.pop()!;
    if (seen.has(value)) continue;
    seen.add(value);
    if (inputs.has(value)) return false;
    const producer = nodes[producerOf.get(value) ?? -1];
    if (producer === undefined) continue;
    if (!POSITIONWISE.has(producer.opType)) return false;
    open.push(...producer.input.filter((name) => name !== ''));
  }
  return true;
}
