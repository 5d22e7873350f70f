import type { NodeProto } from 'onnx-buf';
import { qualifiedOp } from '../graph/graph-index.js';
import { ACTIVATION_RULES } from './activation-rules.js';
import { ATTENTION_LOWERINGS } from './attention-lowerings.js';
import { CONVOLUTION_LOWERINGS } from './convolution-lowering.js';
import { ELEMENTWISE_RULES } from './elementwise-rules.js';
import { EXPERTS_LOWERINGS } from './experts-lowering.js';
import { GROUP_QUERY_LOWERINGS } from './group-query-lowering.js';
import { LINEAR_RULES } from './linear-rules.js';
import { MOVEMENT_RULES } from './movement-rules.js';
import { NORMALISATION_RULES } from './normalisation-rules.js';
import { QUANTISED_LOWERINGS } from './quantised-lowerings.js';
import { REDUCTION_RULES } from './reduction-rules.js';
import { ROTARY_RULES } from './rotary-rules.js';
import { STANDARD_ATTENTION_LOWERINGS } from './standard-attention-lowering.js';
import type { Lowering, VjpRule } from './vjp-rule.js';

/** Gradient rules by operator, the domain in front where it is not ONNX's own. A new operator is a row in its family's file. */
export const VJP_RULES = {
  ...ELEMENTWISE_RULES,
  ...REDUCTION_RULES,
  ...LINEAR_RULES,
  ...MOVEMENT_RULES,
  ...NORMALISATION_RULES,
  ...ACTIVATION_RULES,
  ...ROTARY_RULES,
} as const satisfies Record<string, VjpRule>;

/** Operators that are differentiated by what they are made of. */
export const LOWERINGS = {
  ...ATTENTION_LOWERINGS,
  ...GROUP_QUERY_LOWERINGS,
  ...STANDARD_ATTENTION_LOWERINGS,
  ...CONVOLUTION_LOWERINGS,
  ...EXPERTS_LOWERINGS,
  ...QUANTISED_LOWERINGS,
} as const satisfies Record<string, Lowering>;

/** Operators from floats to floats whose gradient is zero, or that only constants pass through. */
export const FLAT_OPERATORS: ReadonlySet<string> = new Set([
  'Ceil',
  'ConstantOfShape',
  'DequantizeLinear',
  'Floor',
  'OneHot',
  'Range',
  'Round',
  'Sign',
]);

/** Operators whose rules read no number off a dim that is open. */
export const OPEN_OPERATORS: ReadonlySet<string> = new Set([
  'Add',
  'Cast',
  'Div',
  'Expand',
  'Flatten',
  'Gather',
  'Gelu',
  'Identity',
  'MatMul',
  'Mul',
  'Neg',
  'Relu',
  'Reshape',
  'ScatterElements',
  'Sigmoid',
  'Squeeze',
  'Sub',
  'Tanh',
  'Transpose',
  'Unsqueeze',
]);

/** The rule, lowering or flatness of a node's operator; undefined when it has none of them. */
export function findVjp(
  node: NodeProto,
): { readonly rule: VjpRule } | { readonly lower: Lowering } | 'flat' | undefined {
  const key = qualifiedOp(node);
  if (FLAT_OPERATORS.has(key)) return 'flat';
  if (Object.hasOwn(VJP_RULES, key)) return { rule: VJP_RULES[key as keyof typeof VJP_RULES] };
  if (Object.hasOwn(LOWERINGS, key)) return { lower: LOWERINGS[key as keyof typeof LOWERINGS] };
  return undefined;
}
