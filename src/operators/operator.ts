import type { GraphProto, NodeProto } from 'onnx-buf';
import type { AxisRule } from './axis-rule.js';
import type { Lowering, VjpRule } from './gradient-rule.js';
import type { MendRule } from './mend-rule.js';

/**
 * All that is known of an operator, by its parts. Every part is there: one that an operator does not need, or that no one
 * has written yet, says so.
 */
export interface Operator {
  /** How channels travel from one port to the others. */
  readonly axis: AxisRule | Missing;
  /** Numbers about an axis that shrinks, and how they are changed: attributes, shapes, indices. */
  readonly mend: MendRule | 'no numbers';
  /** How tokens meet in it. */
  readonly tokens: TokenMixing;
  /** How its inputs get their gradients. */
  readonly gradient: Gradient;
  /** Inputs, by their index, that hold what a model learns, where they are weights. */
  readonly parameters: Readonly<Record<number, ParameterForm>>;
  /** Which inputs hold past keys and values, and which outputs hold them with the new ones behind. */
  readonly cache: Cache | 'none';
  /** Input with a table of one row a position that it looks up itself. */
  readonly positionTable: number | 'none';
  /** Effect on a stored weight that passes through the operator before its product. */
  readonly weight: 'same' | 'transposed' | 'unpacked' | 'changed';
  /** How it is split where it holds a sum of the residual stream inside. */
  readonly split: ((node: NodeProto) => NodeProto[] | undefined) | 'no sum inside';
  /** How it is written where ONNX Runtime has no kernel for its form; `undefined` for a form that has one. */
  readonly run: ((node: NodeProto, graph: GraphProto) => NodeProto[] | undefined) | 'as it is';
  /** Whether ONNX's shape inference takes open sizes of its inputs for 0, so that they must be known. Default false. */
  readonly needsSizes: boolean;
  /** Why a model with it cannot be pruned, and what to do instead. */
  readonly refusal: string | 'none';
}

/** The matrix of a linear map; one number for each channel: a gain, a bias; or a bias for each expert, `[experts, channels]`. */
export type ParameterForm = 'matrix' | 'vector' | 'expert biases';

/** A part that does not exist, with the reason. */
export interface Missing {
  readonly missing: string;
}

export const missing = (reason: string): Missing => ({ missing: reason });

/**
 * `each`: every token by itself, and all alike. `layout`: the same elements in the same order. `moves`: nothing is said, tokens
 * or channels may change places. `repeats`: there may be more of them. `product`: where both operands are activations. `mixer`: otherwise than in attention.
 * `experts`: some parts take some tokens. `recurrence`: each head through a state of its own (linear attention). An attention also says what hides later tokens: always, an attribute that is 1, or
 * nothing inside it.
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

/** Whether tokens meet in an operator as they do in attention. */
export const isAttention = (operator: Operator | undefined): boolean => typeof operator?.tokens === 'object';

/**
 * A rule; one that reads no number off a dim, so that it holds where a dim follows the data; a lowering to operators that
 * have one; or zero: outputs that are integers, or that no input reaches but by steps.
 */
export type Gradient = VjpRule | { readonly openRule: VjpRule } | { readonly lower: Lowering } | 'zero' | Missing;

/** A rule that reads no number off a dim. */
export const byOpenRule = (openRule: VjpRule): Gradient => ({ openRule });

/** Inputs with past keys and values, outputs with present ones, and the axis of their heads. */
export interface Cache {
  readonly past: readonly number[];
  readonly present: readonly number[];
  readonly headAxis: number;
}

/** Default row of an operator: no sizes, no parameters, no cache, nothing fused. */
export const PLAIN = {
  mend: 'no numbers',
  tokens: 'each',
  parameters: {},
  cache: 'none',
  positionTable: 'none',
  weight: 'changed',
  split: 'no sum inside',
  run: 'as it is',
  needsSizes: false,
  refusal: 'none',
} as const satisfies Partial<Operator>;

/** Operators by name, the domain in front where it is not ONNX's own. */
export type Family = Readonly<Record<string, Operator>>;
