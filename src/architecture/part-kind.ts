import { type GraphIndex, inputsOf, qualifiedOp } from '../graph/graph-index.js';
import { ATTENTION_OPS, MIXER_OPS } from './axis-rules/table.js';
import type { ModuleKind, StayingKind } from './layout.js';

/** A value of a stage, and where the stage ends. */
export interface StageValue {
  readonly index: GraphIndex;
  readonly stageOf: ReadonlyMap<string, number>;
  readonly stage: number;
  readonly value: string;
}

/** Products that mix tokens when both operands are activations. */
export const PRODUCT_OPS: ReadonlySet<string> = new Set(['MatMul', 'Einsum', 'com.microsoft.FusedMatMul']);

/** What kind of part makes a value within its stage, told by how tokens meet on the way. */
export function partKind({ index, stageOf, stage, value }: StageValue): ModuleKind | Extract<StayingKind, 'mixer'> {
  const pending = [value];
  const seen = new Set<string>();
  let isMixer = false;
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const node = index.nodes[index.producerOf.get(next) ?? -1];
    if (node === undefined || seen.has(next) || stageOf.get(next) !== stage) continue;
    seen.add(next);
    const isProduct = PRODUCT_OPS.has(qualifiedOp(node)) && node.input.every((input) => !index.constants.has(input));
    if (isProduct || ATTENTION_OPS.has(qualifiedOp(node))) return 'attention';
    isMixer ||= MIXER_OPS.has(qualifiedOp(node));
    pending.push(...inputsOf(node));
  }
  return isMixer ? 'mixer' : 'ffn';
}
