import { intAttribute, intsAttribute } from '../onnx/attributes.js';
import { positiveAxis, type Value } from '../onnx/value.js';
import { type AxisRule, ReducedTogether, TraceStop, toOtherSide } from './axis-rule.js';
import type { RuleContext, VjpRule } from './gradient-rule.js';
import { type Family, type Operator, PLAIN } from './operator.js';

/** Axes that are not reduced keep labels. */
const reductionAxes: AxisRule = (site) => {
  if (site.side === 'input' && site.slot !== 0) throw new TraceStop('channels are used as reduction axes');
  const rank = site.dims(site.node.input[0] ?? '').length;
  const given = intsAttribute(site.node, 'axes') ?? (site.node.input[1] ? site.ints(site.node.input[1]) : []);
  const axes = (given.length > 0 ? given : Array.from({ length: rank }, (_, axis) => axis)).map((axis) =>
    positiveAxis(axis, rank),
  );
  const keeps = intAttribute(site.node, 'keepdims', 1) !== 0;
  const { axis } = site.label;
  if (site.side === 'input') {
    if (axes.includes(axis))
      throw new ReducedTogether('the channels are reduced together, so removing some changes the others');
    return toOtherSide(site, axis - axes.filter((at) => !keeps && at < axis).length);
  }
  const remaining = Array.from({ length: rank }, (_, at) => at).filter((at) => keeps || !axes.includes(at));
  return toOtherSide(site, remaining[axis] ?? 0);
};

const reduction = (rule: VjpRule): Operator => ({ ...PLAIN, axis: reductionAxes, gradient: rule });

/**
 * Reductions. In their gradients `g` and `y` are cotangent and output with the reduced axes kept as 1; the driver
 * broadcasts smaller results to x.
 */
export const REDUCTIONS = {
  /** y = sum(x): dx = g. */
  ReduceSum: reduction((c) => [keepReduced(c, c.g)]),
  /** y = mean of n: dx = g / n. */
  ReduceMean: reduction((c) => [c.o.mul(keepReduced(c, c.g), 1 / reducedCount(c))]),
  /** y = sum(x^2): dx = 2 g x. */
  ReduceSumSquare: reduction((c) => [c.o.mul(c.o.mul(keepReduced(c, c.g), 2), c.input(0))]),
  /** y = sqrt(sum(x^2)): dx = g x / y, and 0 where x is zero. */
  ReduceL2: reduction((c) => {
    const length = keepReduced(c, c.output(0));
    return [c.o.mul(c.o.where(c.o.greater(length, 0), c.o.div(keepReduced(c, c.g), length), 0), c.input(0))];
  }),
  /** y = ln(sum(exp(x))): dx = g exp(x - y). */
  ReduceLogSumExp: reduction((c) => [
    c.o.mul(keepReduced(c, c.g), c.o.exp(c.o.sub(c.input(0), keepReduced(c, c.output(0))))),
  ]),
  /** y = max(x): g goes to the elements that equal y, shared equally between ties. */
  ReduceMax: reduction((c) => [shareExtremum(c)]),
  /** y = min(x): as ReduceMax. */
  ReduceMin: reduction((c) => [shareExtremum(c)]),
} as const satisfies Family;

/** Axes reduced by the node, from attribute or input; none given means all (or none, when the node says so). */
function reducedAxes(c: RuleContext): readonly number[] {
  const { dims } = c.input(0);
  const given = intsAttribute(c.node, 'axes') ?? (c.has(1) ? c.ints(1) : []);
  if (given.length > 0) return given.map((axis) => positiveAxis(axis, dims.length));
  return intAttribute(c.node, 'noop_with_empty_axes', 0) === 1 ? [] : dims.map((_, axis) => axis);
}

function reducedCount(c: RuleContext): number {
  return reducedAxes(c).reduce((product, axis) => product * (c.input(0).dims[axis] ?? 1), 1);
}

function keepReduced(c: RuleContext, reduced: Value): Value {
  const axes = new Set(reducedAxes(c));
  return c.o.reshape(
    reduced,
    c.input(0).dims.map((dim, axis) => (axes.has(axis) ? 1 : dim)),
  );
}

function shareExtremum(c: RuleContext): Value {
  const mask = c.o.cast(c.o.equal(c.input(0), keepReduced(c, c.output(0))), c.g.dataType);
  return c.o.mul(mask, c.o.div(keepReduced(c, c.g), c.o.sum(mask, reducedAxes(c), true)));
}
