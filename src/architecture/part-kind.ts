import { type GraphIndex, inputsOf } from '../onnx/graph-index.js';
import { isAttention } from '../operators/operator.js';
import { operatorOf } from '../operators/table.js';
import type { ModuleKind, UnprunableKind } from './layout.js';

/** A value of a stage, and where the stage ends. */
export interface StageValue {
  readonly index: GraphIndex;
  readonly stageOf: ReadonlyMap<string, number>;
  readonly stage: number;
  readonly value: string;
  /** Whether the path ends at a node. */
  endsAt?(at: number): boolean;
}

/** Kind of the part that computes a value within its stage, recognised by its operators that mix tokens. */
export function partKind({
  index,
  stageOf,
  stage,
  value,
  endsAt,
}: StageValue): ModuleKind | Extract<UnprunableKind, 'mixer'> {
  const pending = [value];
  const seen = new Set<string>();
  let [isMixer, hasProduct] = [false, false];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const at = index.producerOf.get(next) ?? -1;
    const node = index.nodes[at];
    if (node === undefined || seen.has(next) || stageOf.get(next) !== stage || endsAt?.(at)) continue;
    seen.add(next);
    const operator = operatorOf(node);
    if (isAttention(operator)) return 'attention';
    hasProduct ||= operator?.tokens === 'product' && node.input.every((input) => !index.constants.has(input));
    isMixer ||= operator?.tokens === 'mixer' || operator?.tokens === 'recurrence';
    pending.push(...inputsOf(node));
  }
  // A scan is written in products and sums over the tokens (Mamba).
  if (isMixer) return 'mixer';
  return hasProduct ? 'attention' : 'ffn';
}
