import { intAttribute, intsAttribute } from '../graph/attributes.js';
import { positiveAxis, type Value } from './value.js';
import type { RuleContext, VjpRule } from './vjp-rule.js';

/**
 * Gradients of reductions and of the softmaxes. `g` and `y` stand for cotangent and output with the reduced axes kept as 1;
 * the driver broadcasts what comes out smaller than x.
 */
export const REDUCTION_RULES = {
  /** y = sum(x): dx = g. */
  ReduceSum: (c) => [keepReduced(c, c.g)],
  /** y = mean of n: dx = g / n. */
  ReduceMean: (c) => [c.o.mul(keepReduced(c, c.g), 1 / reducedCount(c))],
  /** y = sum(x^2): dx = 2 g x. */
  ReduceSumSquare: (c) => [c.o.mul(c.o.mul(keepReduced(c, c.g), 2), c.input(0))],
  /** y = sqrt(sum(x^2)): dx = g x / y. */
  ReduceL2: (c) => [c.o.mul(c.o.div(keepReduced(c, c.g), keepReduced(c, c.output(0))), c.input(0))],
  /** y = ln(sum(exp(x))): dx = g exp(x - y). */
  ReduceLogSumExp: (c) => [c.o.mul(keepReduced(c, c.g), c.o.exp(c.o.sub(c.input(0), keepReduced(c, c.output(0)))))],
  /** y = max(x): g goes to the elements that equal y, shared equally between ties. */
  ReduceMax: (c) => [shareExtremum(c)],
  /** y = min(x): as ReduceMax. */
  ReduceMin: (c) => [shareExtremum(c)],
  /** y = softmax(x): dx = y (g - sum(g y)). */
  Softmax: (c) => {
    const y = c.output(0);
    return [c.o.mul(y, c.o.sub(c.g, c.o.sum(c.o.mul(c.g, y), softmaxAxes(c), true)))];
  },
  /** y = log softmax(x): dx = g - exp(y) sum(g). */
  LogSoftmax: (c) => [c.o.sub(c.g, c.o.mul(c.o.exp(c.output(0)), c.o.sum(c.g, softmaxAxes(c), true)))],
} as const satisfies Record<string, VjpRule>;

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

/** Before opset 13 a softmax ran over all axes from `axis` (default 1) on, since then over `axis` (default -1) alone. */
function softmaxAxes(c: RuleContext): readonly number[] {
  const rank = c.input(0).dims.length;
  const axis = positiveAxis(intAttribute(c.node, 'axis', c.opset < 13 ? 1 : -1), rank);
  return c.opset < 13 ? Array.from({ length: rank - axis }, (_, at) => axis + at) : [axis];
}
