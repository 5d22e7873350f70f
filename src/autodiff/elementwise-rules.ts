import { intAttribute } from '../graph/attributes.js';
import type { Value } from './value.js';
import { gradientType } from './value.js';
import type { RuleContext, VjpRule } from './vjp-rule.js';

/** Gradients of element by element operators. `g` is the cotangent of y, `a` and `b` are the inputs. */
export const ELEMENTWISE_RULES = {
  /** y = a + b: da = g, db = g. */
  Add: ({ g }) => [g, g],
  /** y = a - b: da = g, db = -g. */
  Sub: ({ g, o, wants }) => [g, wants(1) ? o.neg(g) : undefined],
  /** y = a b: da = g b, db = g a. */
  Mul: (c) => [c.wants(0) ? c.o.mul(c.g, c.input(1)) : undefined, c.wants(1) ? c.o.mul(c.g, c.input(0)) : undefined],
  /** y = a / b: da = g / b, db = -(g / b) y. */
  Div: (c) => {
    const da = c.o.div(c.g, c.input(1));
    return [da, c.wants(1) ? c.o.neg(c.o.mul(da, c.output(0))) : undefined];
  },
  /** y = sum of all inputs: each gets g. */
  Sum: ({ g, node }) => node.input.map(() => g),
  /** y = -x: dx = -g. */
  Neg: ({ g, o }) => [o.neg(g)],
  /** y = |x|: dx = g sign(x). */
  Abs: (c) => [c.o.mul(c.g, c.o.sign(c.input(0)))],
  /** y = exp(x): dx = g y. */
  Exp: (c) => [c.o.mul(c.g, c.output(0))],
  /** y = ln(x): dx = g / x. */
  Log: (c) => [c.o.div(c.g, c.input(0))],
  /** y = sqrt(x): dx = g / (2 y). */
  Sqrt: (c) => [c.o.div(c.g, c.o.mul(c.output(0), 2))],
  /** y = 1 / x: dx = -g y^2. */
  Reciprocal: (c) => [c.o.neg(c.o.mul(c.g, c.o.mul(c.output(0), c.output(0))))],
  /** y = sin(x): dx = g cos(x). */
  Sin: (c) => [c.o.mul(c.g, c.o.cos(c.input(0)))],
  /** y = cos(x): dx = -g sin(x). */
  Cos: (c) => [c.o.neg(c.o.mul(c.g, c.o.sin(c.input(0))))],
  /** y = x^p: dx = g p x^(p-1), dp = g y ln(x), which is defined for x > 0 only. */
  Pow: (c) => [
    c.o.mul(c.g, powerDerivative(c)),
    c.wants(1) ? c.o.mul(c.g, c.o.mul(c.output(0), c.o.log(c.input(0)))) : undefined,
  ],
  /**
   * y = a where the condition holds, else b: da = g there, db = g elsewhere.
   * Exporters replace the NaN of fully masked rows after each softmax; where b is its own condition, db = g without the mask,
   * which would cost as much as the softmax.
   */
  Where: (c) => {
    const [condition, b] = [c.producer(0), c.node.input[2]];
    const guardsNaN = condition?.opType === 'IsNaN' && condition.input[0] === b;
    return [
      undefined,
      c.wants(1) ? c.o.where(c.input(0), c.g, 0) : undefined,
      c.wants(2) ? (guardsNaN ? c.g : c.o.where(c.input(0), 0, c.g)) : undefined,
    ];
  },
  /** y = max of the inputs: g goes to the input that equals y, shared equally between ties. */
  Max: (c) => shareWhereEqual(c),
  /** y = min of the inputs: as Max. */
  Min: (c) => shareWhereEqual(c),
  /** y = x kept within bounds: dx = g where x is within them. */
  Clip: (c) => [c.o.where(c.o.equal(c.input(0), c.output(0)), c.g, 0)],
  /** Precision changes, the gradient does not: dx = g. */
  Cast: (c) => [c.o.cast(c.g, gradientType(c.input(0).dataType))],
  /** y_i = x_1 + ... + x_i: dx is the same sum run from the other end. */
  CumSum: (c) => [
    c.o.emitter.node('CumSum', [c.g, c.input(1)], {
      ...c.g,
      attributes: {
        exclusive: intAttribute(c.node, 'exclusive', 0),
        reverse: 1 - intAttribute(c.node, 'reverse', 0),
      },
    }),
  ],
  /** y = triangle of x: dx = the same triangle of g. */
  Trilu: (c) => [
    c.o.emitter.node('Trilu', [c.g, c.has(1) ? c.input(1) : undefined], {
      ...c.g,
      attributes: { upper: intAttribute(c.node, 'upper', 1) },
    }),
  ],
} as const satisfies Record<string, VjpRule>;

/** p x^(p-1); ONNX Runtime computes squares fast and other powers slowly, so the common exponents avoid Pow. */
function powerDerivative(c: RuleContext): Value {
  const x = c.input(0);
  const exponent = c.constant(1);
  if (exponent === 2) return c.o.mul(x, 2);
  if (exponent === 3) return c.o.mul(c.o.mul(x, x), 3);
  if (exponent !== undefined) return c.o.mul(c.o.pow(x, exponent - 1), exponent);
  const p = c.o.cast(c.input(1), x.dataType);
  return c.o.mul(c.o.pow(x, c.o.sub(p, 1)), p);
}

function shareWhereEqual(c: RuleContext): Value[] {
  const masks = c.node.input.map((_, at) => c.o.cast(c.o.equal(c.input(at), c.output(0)), c.g.dataType));
  const ties = masks.reduce((sum, mask) => c.o.add(sum, mask));
  const share = c.o.div(c.g, ties);
  return masks.map((mask) => c.o.mul(share, mask));
}
