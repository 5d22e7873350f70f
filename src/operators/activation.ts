import { floatAttribute, textAttribute } from '../onnx/attributes.js';
import type { Value } from '../onnx/value.js';
import { pointwise } from './elementwise.js';
import type { RuleContext } from './gradient-rule.js';
import { byOpenRule, type Family, missing } from './operator.js';

const NOT_IMPLEMENTED = pointwise(missing('its derivative is not implemented yet'));

/** Elementwise activation functions: dx = g y'(x). A fused bias is another operand. */
export const ACTIVATIONS = {
  /** y' = y (1 - y). */
  Sigmoid: pointwise(byOpenRule((c) => [c.o.mul(c.g, c.o.mul(c.output(0), c.o.sub(1, c.output(0))))])),
  /** y' = 1 - y^2. */
  Tanh: pointwise(byOpenRule((c) => [c.o.mul(c.g, c.o.sub(1, c.o.mul(c.output(0), c.output(0))))])),
  /** y' = 2 / sqrt(pi) exp(-x^2). */
  Erf: pointwise((c) => [
    c.o.mul(c.g, c.o.mul(c.o.exp(c.o.neg(c.o.mul(c.input(0), c.input(0)))), 2 / Math.sqrt(Math.PI))),
  ]),
  /** y' = 1 where y > 0, else 0. */
  Relu: pointwise(byOpenRule((c) => [c.o.where(c.o.greater(c.output(0), 0), c.g, 0)])),
  /** y' = 1 where x > 0, else alpha. */
  LeakyRelu: pointwise((c) => [
    c.o.where(c.o.less(c.input(0), 0), c.o.mul(c.g, floatAttribute(c.node, 'alpha', 0.01)), c.g),
  ]),
  /** y = alpha (exp(x) - 1) below 0: y' = y + alpha there, else 1. */
  Elu: pointwise((c) => {
    const below = c.o.mul(c.g, c.o.add(c.output(0), floatAttribute(c.node, 'alpha', 1)));
    return [c.o.where(c.o.less(c.input(0), 0), below, c.g)];
  }),
  /** y = ln(1 + exp(x)): y' = sigmoid(x). */
  Softplus: pointwise((c) => [c.o.mul(c.g, c.o.sigmoid(c.input(0)))]),
  /** y = x Phi(x), or its tanh approximation. */
  Gelu: pointwise(
    byOpenRule((c) => {
      const isTanh = textAttribute(c.node, 'approximate') === 'tanh';
      return [c.o.mul(c.g, isTanh ? tanhGelu(c, c.input(0)) : erfGelu(c, c.input(0)))];
    }),
  ),
  /** y = x Phi(x). */
  'com.microsoft.Gelu': pointwise((c) => [c.o.mul(c.g, erfGelu(c, c.input(0)))]),
  /** y = gelu(a + b): da = db = g gelu'(a + b). */
  'com.microsoft.BiasGelu': {
    ...pointwise((c) => {
      const dx = c.o.mul(c.g, erfGelu(c, c.o.add(c.input(0), c.input(1))));
      return [dx, dx];
    }),
    parameters: { 1: 'vector' },
  },
  /** y = tanh gelu(x + bias), bias optional. */
  'com.microsoft.FastGelu': {
    ...pointwise((c) => {
      const x = c.has(1) ? c.o.add(c.input(0), c.input(1)) : c.input(0);
      const dx = c.o.mul(c.g, tanhGelu(c, x));
      return [dx, dx];
    }),
    parameters: { 1: 'vector' },
  },
  /** y = x sigmoid(alpha x), alpha 1.702 by default. */
  'com.microsoft.QuickGelu': pointwise((c) => [c.o.mul(c.g, swish(c, floatAttribute(c.node, 'alpha', 1.702)))]),
  /** y = x sigmoid(alpha x), alpha 1 by default. */
  Swish: pointwise((c) => [c.o.mul(c.g, swish(c, floatAttribute(c.node, 'alpha', 1)))]),
  Celu: NOT_IMPLEMENTED,
  HardSigmoid: NOT_IMPLEMENTED,
  HardSwish: NOT_IMPLEMENTED,
  Mish: NOT_IMPLEMENTED,
  PRelu: NOT_IMPLEMENTED,
  Selu: NOT_IMPLEMENTED,
  Softsign: NOT_IMPLEMENTED,
  ThresholdedRelu: NOT_IMPLEMENTED,
} as const satisfies Family;

/** With s = sigmoid(alpha x) and y = x s: y' = s + alpha y (1 - s). */
function swish(c: RuleContext, alpha: number): Value {
  const x = c.input(0);
  const s = c.o.sigmoid(alpha === 1 ? x : c.o.mul(x, alpha));
  const tail = c.o.mul(c.output(0), c.o.sub(alpha, alpha === 1 ? s : c.o.mul(s, alpha)));
  return c.o.add(s, tail);
}

/** Phi(x) + x phi(x), with Phi and phi the standard normal distribution and density. */
function erfGelu({ o }: RuleContext, x: Value): Value {
  const distribution = o.add(o.mul(o.erf(o.mul(x, Math.SQRT1_2)), 0.5), 0.5);
  const density = o.mul(o.exp(o.mul(o.mul(x, x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
  return o.add(distribution, o.mul(x, density));
}

/** y = x (1 + t) / 2, t = tanh(c (x + a x^3)): y' = (1 + t) / 2 + x (1 - t^2) c (1 + 3 a x^2) / 2. */
function tanhGelu({ o }: RuleContext, x: Value): Value {
  const a = 0.044715;
  const scale = Math.sqrt(2 / Math.PI);
  const square = o.mul(x, x);
  const t = o.tanh(o.mul(x, o.add(o.mul(square, a * scale), scale)));
  const inner = o.mul(x, o.add(o.mul(square, 1.5 * a * scale), 0.5 * scale));
  const slope = o.mul(o.sub(1, o.mul(t, t)), inner);
  return o.add(o.add(o.mul(t, 0.5), 0.5), slope);
}
