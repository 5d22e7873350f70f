import type { Value } from '../onnx/value.js';
import { gradientType } from '../onnx/value.js';
import { type AxisRule, type Finding, labelledValue, portsOf, TraceStop, toOtherSide } from './axis-rule.js';
import type { RuleContext } from './gradient-rule.js';
import { byOpenRule, type Family, type Gradient, missing, type Operator, PLAIN } from './operator.js';

/** All ports share the axis, aligned from the right as broadcasting does; a port of size 1 there has no label. */
export const broadcastAxes: AxisRule = (site) => {
  const from = labelledValue(site);
  const rank = site.dims(from).length;
  const { axis, unitIds } = site.label;
  const findings: Finding[] = [];
  for (const { value } of portsOf(site.node)) {
    if (value === from) continue;
    const dims = site.dims(value);
    const there = axis + dims.length - rank;
    if (there < 0 || dims[there] === 1) continue;
    if (dims[there] !== unitIds.length)
      throw new TraceStop(`operands of ${unitIds.length} and ${dims[there]} channels`);
    findings.push({ value, label: { axis: there, unitIds } });
  }
  return { findings };
};

/** Input 0 and output 0 have equal dims and share every axis. */
export const equalShapeAxes: AxisRule = (site) => {
  if (site.slot !== 0) throw new TraceStop(`channels reach ${site.side} ${site.slot}`);
  return toOtherSide(site, site.label.axis);
};

/** An elementwise operator. */
export const pointwise = (gradient: Gradient): Operator => ({ ...PLAIN, axis: broadcastAxes, gradient });

/** An elementwise operator with integer outputs or zero gradient. */
const steps = pointwise('zero');

/** Either operand may be a scale or a bias. */
const CHANNELS = { 0: 'vector', 1: 'vector' } as const;

/** Elementwise arithmetic. `g` is the cotangent of y, `a` and `b` are the inputs. */
export const ELEMENTWISE = {
  /** y = a + b: da = g, db = g. */
  Add: { ...pointwise(byOpenRule(({ g }) => [g, g])), parameters: CHANNELS },
  /** y = a - b: da = g, db = -g. */
  Sub: {
    ...pointwise(byOpenRule(({ g, o, wants }) => [g, wants(1) ? o.neg(g) : undefined])),
    parameters: { 1: 'vector' },
  },
  /** y = a b: da = g b, db = g a. */
  Mul: {
    ...pointwise(
      byOpenRule((c) => [
        c.wants(0) ? c.o.mul(c.g, c.input(1)) : undefined,
        c.wants(1) ? c.o.mul(c.g, c.input(0)) : undefined,
      ]),
    ),
    parameters: CHANNELS,
  },
  /** y = a / b: da = g / b, db = -(g / b) y. */
  Div: pointwise(
    byOpenRule((c) => {
      const da = c.o.div(c.g, c.input(1));
      return [da, c.wants(1) ? c.o.neg(c.o.mul(da, c.output(0))) : undefined];
    }),
  ),
  /** y = sum of all inputs: each gets g. */
  Sum: pointwise(({ g, node }) => node.input.map(() => g)),
  /** y = -x: dx = -g. */
  Neg: pointwise(byOpenRule(({ g, o }) => [o.neg(g)])),
  /** y = |x|: dx = g sign(x). */
  Abs: pointwise((c) => [c.o.mul(c.g, c.o.sign(c.input(0)))]),
  /** y = exp(x): dx = g y. */
  Exp: pointwise((c) => [c.o.mul(c.g, c.output(0))]),
  /** y = ln(x): dx = g / x. */
  Log: pointwise((c) => [c.o.div(c.g, c.input(0))]),
  /** y = sqrt(x): dx = g / (2 y), and 0 at x = 0, the norm of a zero vector. */
  Sqrt: pointwise((c) => [c.o.where(c.o.greater(c.output(0), 0), c.o.div(c.g, c.o.mul(c.output(0), 2)), 0)]),
  /** y = 1 / x: dx = -g y^2. */
  Reciprocal: pointwise((c) => [c.o.neg(c.o.mul(c.g, c.o.mul(c.output(0), c.output(0))))]),
  /** y = sin(x): dx = g cos(x). */
  Sin: pointwise((c) => [c.o.mul(c.g, c.o.cos(c.input(0)))]),
  /** y = cos(x): dx = -g sin(x). */
  Cos: pointwise((c) => [c.o.neg(c.o.mul(c.g, c.o.sin(c.input(0))))]),
  /** y = x^p: dx = g p x^(p-1), dp = g y ln(x), which is defined for x > 0 only. */
  Pow: pointwise((c) => [
    c.o.mul(c.g, powerDerivative(c)),
    c.wants(1) ? c.o.mul(c.g, c.o.mul(c.output(0), c.o.log(c.input(0)))) : undefined,
  ]),
  /**
   * y = a where the condition holds, else b: da = g there, db = g elsewhere. Exporters replace NaN of fully masked rows
   * after each softmax; if the condition tests b itself, db = g without the mask, which would cost as much as the
   * softmax.
   */
  Where: pointwise((c) => {
    const [condition, b] = [c.producer(0), c.node.input[2]];
    const guardsNaN = condition?.opType === 'IsNaN' && condition.input[0] === b;
    return [
      undefined,
      c.wants(1) ? c.o.where(c.input(0), c.g, 0) : undefined,
      c.wants(2) ? (guardsNaN ? c.g : c.o.where(c.input(0), 0, c.g)) : undefined,
    ];
  }),
  /** y = max of the inputs: g goes to the input that equals y, shared equally between ties. */
  Max: pointwise((c) => shareWhereEqual(c)),
  /** y = min of the inputs: as Max. */
  Min: pointwise((c) => shareWhereEqual(c)),
  /** y = x kept within bounds: dx = g where x is within them. */
  Clip: pointwise((c) => [c.o.where(c.o.equal(c.input(0), c.output(0)), c.g, 0)]),
  /** Precision changes, the gradient does not: dx = g. */
  Cast: { ...pointwise(byOpenRule((c) => [c.o.cast(c.g, gradientType(c.input(0).dataType))])), weight: 'same' },
  Identity: { ...pointwise(byOpenRule(({ g }) => [g])), weight: 'same' },
  /** The identity at inference. */
  Dropout: pointwise(({ g }) => [g]),
  /** Scales may be blockwise along the last axis, so that channels are not traced through it. */
  DequantizeLinear: {
    ...PLAIN,
    axis: missing('its scales and zero points are per block of the weight'),
    gradient: 'zero',
    weight: 'unpacked',
  },
  Mod: pointwise(missing('Mod has no useful derivative, and no known decoder needs its gradient')),
  And: steps,
  Or: steps,
  Xor: steps,
  Not: steps,
  IsNaN: steps,
  IsInf: steps,
  Equal: steps,
  Less: steps,
  LessOrEqual: steps,
  Greater: steps,
  GreaterOrEqual: steps,
  Sign: steps,
  Floor: steps,
  Ceil: steps,
  Round: steps,
} as const satisfies Family;

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
