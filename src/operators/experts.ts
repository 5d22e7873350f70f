import { floatAttribute, intAttribute, textAttribute } from '../graph/attributes.js';
import type { TensorOps } from '../graph/tensor-ops.js';
import { FLOAT32, type Value } from '../graph/value.js';
import { type Lowering, type LoweringContext, unsupported } from './gradient-rule.js';
import { type Family, type Gradient, missing, type Operator, PLAIN } from './operator.js';

/**
 * A mixture of experts with every expert computed for every token, and those that a token does not go to weighted by 0.
 * Inputs: 0 `[.., C]`, 1 the router's scores `[T, E]`, 2 and 3 weight `[E, F, C]` and bias of the first map, 4 and 5
 * `[E, C, F']` and bias of the second, 6 and 7 a third map.
 */
const mixExperts: Lowering = (c) => {
  const { o } = c;
  if (c.has(6)) throw unsupported(c.node, 'its experts have a third map of their own.');
  const { dims } = c.input(0);
  const width = dims.at(-1) ?? 1;
  const [tokens = 1, experts = 1] = c.input(1).dims;
  const x = o.reshape(c.input(0), [1, tokens, width]);
  const first = plusBias(c, o.matMul(x, c.input(2), { transB: true }), 3);
  const made = plusBias(c, o.matMul(activate(c, first), c.input(4), { transB: true }), 5);
  const shares = o.reshape(o.transpose(routingShares(c), [1, 0]), [experts, tokens, 1]);
  return [o.reshape(o.sum(o.mul(made, shares), [0], false), dims)];
};

const experts = (gradient: Gradient): Operator => ({
  ...PLAIN,
  axis: missing('mixtures of experts cannot be pruned yet'),
  tokens: 'experts',
  gradient,
});

/** ONNX Runtime's fused mixtures of experts. */
export const EXPERTS = {
  'com.microsoft.MoE': experts({ lower: mixExperts }),
  'com.microsoft.QMoE': experts(missing('its packed weights are not unpacked yet')),
} as const satisfies Family;

/** Adds a bias `[E, F]` to `[E, T, F]`. */
function plusBias(c: LoweringContext, x: Value, input: number): Value {
  if (!c.has(input)) return x;
  const [experts = 1, , channels = 1] = x.dims;
  return c.o.add(x, c.o.reshape(c.input(input), [experts, 1, channels]));
}

/** Weights of the k best experts of each token, `[T, E]`; 0 for the others. */
function routingShares(c: LoweringContext): Value {
  const { o } = c;
  const scores = c.input(1);
  const [tokens = 1, experts = 1] = scores.dims;
  if (intAttribute(c.node, 'use_sparse_mixer', 0) === 1) throw unsupported(c.node, 'it mixes sparsely.');
  const better = o.greater(o.reshape(scores, [tokens, 1, experts]), o.reshape(scores, [tokens, experts, 1]));
  const isChosen = o.less(o.sum(o.cast(better, FLOAT32), [2], false), intAttribute(c.node, 'k', 1));
  if (intAttribute(c.node, 'normalize_routing_weights', 0) === 1) return o.softmax(o.where(isChosen, scores, LOWEST));
  return o.where(isChosen, o.softmax(scores), 0);
}

const LOWEST = -3.4028234663852886e38;

const ACTIVATIONS: Readonly<Record<string, (o: TensorOps, x: Value) => Value>> = {
  identity: (_, x) => x,
  relu: (o, x) => o.where(o.greater(x, 0), x, 0),
  silu: (o, x) => o.mul(x, o.sigmoid(x)),
};

function activate(c: LoweringContext, x: Value): Value {
  const { o } = c;
  const type = textAttribute(c.node, 'activation_type') || 'relu';
  const plain = ACTIVATIONS[type];
  if (plain !== undefined) return plain(o, x);
  const fusion = intAttribute(c.node, 'swiglu_fusion', 0);
  if (type !== 'swiglu' || fusion === 0) throw unsupported(c.node, `its activation is "${type}".`);
  const [experts = 1, tokens = 1, channels = 1] = x.dims;
  const half = channels / 2;
  // Gate and linear part lie side by side channel by channel (1), or one after the other (2).
  const paired = fusion === 1 ? [half, 2] : [2, half];
  const axis = fusion === 1 ? 3 : 2;
  const [gate, linear] = [0, 1].map((at) =>
    o.reshape(o.slice(o.reshape(x, [experts, tokens, ...paired]), axis, { start: at, end: at + 1 }), [
      experts,
      tokens,
      half,
    ]),
  ) as [Value, Value];
  const limit = floatAttribute(c.node, 'swiglu_limit', Number.POSITIVE_INFINITY);
  const isLimited = Number.isFinite(limit);
  const below = (value: Value) => (isLimited ? o.where(o.less(value, limit), value, limit) : value);
  const above = (value: Value) => (isLimited ? o.where(o.greater(value, -limit), value, -limit) : value);
  const [g, l] = [below(gate), above(below(linear))];
  const swish = o.mul(g, o.sigmoid(o.mul(g, floatAttribute(c.node, 'activation_alpha', 1))));
  return o.mul(swish, o.add(l, floatAttribute(c.node, 'activation_beta', 0)));
}
