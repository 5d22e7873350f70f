import { type GraphIndex, inputsOf, qualifiedOp } from '../graph/graph-index.js';
import { ATTENTION_OPS } from './axis-rules/table.js';

/** A value of a stage, and where the stage ends. */
export interface StageValue {
  readonly index: GraphIndex;
  readonly stageOf: ReadonlyMap<string, number>;
  readonly stage: number;
  readonly value: string;
}

/** Products that mix tokens when both operands are activations. */
export const PRODUCT_OPS: ReadonlySet<string> = new Set(['MatMul', 'Einsum', 'com.microsoft.FusedMatMul']);

/** Whether tokens meet on the way to a value within its stage: by this an attention is told from an FFN. */
export function mixesTokens({ index, stageOf, stage, value }: StageValue): boolean {
  const pending = [value];
  const seen = new Set<string>();
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const node = index.nodes[index.producerOf.get(next) ?? -1];
    if (node === undefined || seen.has(next) || stageOf.get(next) !== stage) continue;
    seen.add(next);
    const isProduct = PRODUCT_OPS.has(qualifiedOp(node)) && node.input.every((input) => !index.constants.has(input));
    if (isProduct || ATTENTION_OPS.has(qualifiedOp(node))) return true;
    pending.push(...inputsOf(node));
  }
  return false;
}
