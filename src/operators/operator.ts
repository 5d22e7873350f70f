import type { GraphProto, NodeProto } from 'onnx-buf';
import type { AxisRule } from './axis-rule.js';
import type { Lowering, VjpRule } from './gradient-rule.js';
import type { UpdateRule } from './update-rule.js';

/** Description of an operator. Every part is present: unneeded parts and missing implementations are explicit. */
export interface Operator {
  /** Propagation of labels between ports. */
  readonly axis: AxisRule | Missing;
  /** Update of attributes, shapes and indices for pruned axes. */
  readonly update: UpdateRule | 'none';
  /** How it mixes tokens. */
  readonly tokens: TokenMixing;
  /** Gradient of its inputs. */
  readonly gradient: Gradient;
  /** Trainable inputs by index, where they are weights. */
  readonly parameters: Readonly<Record<number, ParameterForm>>;
  /** Inputs with past keys and values, and outputs with the present ones. */
  readonly cache: Cache | 'none';
  /** Input with a table that it reads by position. */
  readonly positionTable: number | 'none';
  /** Effect on a stored weight that passes through the operator before its product. */
  readonly weight: 'same' | 'transposed' | 'unpacked' | 'changed';
  /** Split of a fused operator that contains a sum of the residual stream. */
  readonly split: ((node: NodeProto) => NodeProto[] | undefined) | 'none';
  /** Rewrite for forms without a kernel in ONNX Runtime; `undefined` for other forms. */
  readonly run: ((node: NodeProto, graph: GraphProto) => NodeProto[] | undefined) | 'none';
  /** Whether ONNX's shape inference treats open sizes of its inputs as 0, so that they must be known. Default false. */
  readonly needsSizes: boolean;
  /** Why a model with it cannot be pruned, and what to do instead. */
  readonly refusal: string | 'none';
}

/** The matrix of a linear layer; a vector with a scale or bias per channel; or biases of experts, `[experts, channels]`. */
export type ParameterForm = 'matrix' | 'vector' | 'expert biases';

/** A missing part, with the reason. */
export interface Missing {
  readonly missing: string;
}

export const missing = (reason: string): Missing => ({ missing: reason });

/**
 * `each`: every token independently. `layout`: a change of shape only. `moves`: tokens or channels may change places.
 * `repeats`: copies of tokens or channels. `product`: mixes tokens where both operands are activations. `mixer`: mixes
 * tokens other than by attention. `experts`: routes tokens to parts. `recurrence`: a state per head (linear attention).
 * Attention also has its causal mask: always, by an attribute that is 1, or none inside.
 */
export type TokenMixing =
  | 'each'
  | 'layout'
  | 'moves'
  | 'repeats'
  | 'product'
  | 'mixer'
  | 'experts'
  | 'recurrence'
  | { readonly causal: 'always' | 'no' | { readonly attribute: string } };

/** Whether an operator is attention. */
export const isAttention = (operator: Operator | undefined): boolean => typeof operator?.tokens === 'object';

/**
 * A VJP rule; an open rule, which also works with data-dependent dims; a lowering to operators that have rules; or
 * zero, for integer outputs and step functions.
 */
export type Gradient = VjpRule | { readonly openRule: VjpRule } | { readonly lower: Lowering } | 'zero' | Missing;

/** A rule that works with data-dependent dims. */
export const byOpenRule = (openRule: VjpRule): Gradient => ({ openRule });

/** Inputs with past keys and values, outputs with present ones, and the axis of their heads. */
export interface Cache {
  readonly past: readonly number[];
  readonly present: readonly number[];
  readonly headAxis: number;
}

/** Default row of an operator: no sizes, no parameters, no cache, nothing fused. */
export const PLAIN = {
  update: 'none',
  tokens: 'each',
  parameters: {},
  cache: 'none',
  positionTable: 'none',
  weight: 'changed',
  split: 'none',
  run: 'none',
  needsSizes: false,
  refusal: 'none',
} as const satisfies Partial<Operator>;

/** Operators by name, with the domain as prefix unless it is ONNX's default. */
export type Family = Readonly<Record<string, Operator>>;
