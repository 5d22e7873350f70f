import { floatAttribute, intAttribute } from '../onnx/attributes.js';
import { positiveAxis, type Value } from '../onnx/value.js';
import { type AxisRule, ReducedTogether } from './axis-rule.js';
import { equalShapeAxes } from './elementwise.js';
import { type RuleContext, unsupported, type VjpRule } from './gradient-rule.js';
import { type Family, type Operator, PLAIN } from './operator.js';

/** Axes before the normalised ones keep labels; channels on normalised axes depend on each other. */
const normAxes: AxisRule = (site) => {
  const rank = site.dims(site.node.input[0] ?? '').length;
  const first = positiveAxis(intAttribute(site.node, 'axis', -1), rank);
  if (site.label.axis >= first) {
    throw new ReducedTogether('the channels are normalised together, so removing some changes the others');
  }
  return equalShapeAxes(site);
};

const norm = (rule: VjpRule): Operator => ({ ...PLAIN, axis: normAxes, gradient: rule });

/**
 * Norms and softmaxes. In the gradients of the norms w is the scale and gw = g w.
 * RMS norm: y = x r w, r = (mean(x^2) + eps)^(-1/2): dx = r gw - x r^3 mean(gw x).
 * Layer norm: y = z w + b, z = (x - mean(x)) r, r = (var(x) + eps)^(-1/2): dx = r (gw - mean(gw) - z mean(gw z)).
 */
export const NORMALISATION = {
  LayerNormalization: { ...norm((c) => layerNorm(c)), parameters: { 1: 'vector', 2: 'vector' } },
  SimplifiedLayerNormalization: { ...norm((c) => rmsNorm(c)), parameters: { 1: 'vector' } },
  RMSNormalization: { ...norm((c) => rmsNorm(c)), parameters: { 1: 'vector' } },
  /** y = x / |x| along one axis: dx = (g - y sum(g y)) / |x|, and 0 where x is zero. */
  LpNormalization: norm((c) => {
    if (intAttribute(c.node, 'p', 2) !== 2) throw unsupported(c.node, 'its norm is not the Euclidean one.');
    const axes = [intAttribute(c.node, 'axis', -1)];
    const along = c.o.sum(c.o.mul(c.g, c.output(0)), axes, true);
    const length = c.o.sqrt(c.o.sumSquare(c.input(0), axes, true));
    return [c.o.where(c.o.greater(length, 0), c.o.div(c.o.sub(c.g, c.o.mul(c.output(0), along)), length), 0)];
  }),
  /** y = softmax(x): dx = y (g - sum(g y)). A softmax over keys identifies attention. */
  Softmax: {
    ...norm((c) => {
      const y = c.output(0);
      return [c.o.mul(y, c.o.sub(c.g, c.o.sum(c.o.mul(c.g, y), softmaxAxes(c), true)))];
    }),
    tokens: { causal: 'no' },
  },
  /** y = log softmax(x): dx = g - exp(y) sum(g). */
  LogSoftmax: norm((c) => [c.o.sub(c.g, c.o.mul(c.o.exp(c.output(0)), c.o.sum(c.g, softmaxAxes(c), true)))]),
} as const satisfies Family;

function rmsNorm(c: RuleContext): (Value | undefined)[] {
  const { o, g } = c;
  const { x, axes, epsilon } = readNorm(c);
  const count = axes.reduce((product, at) => product * (x.dims[at] ?? 1), 1);
  const variance = o.add(o.mul(o.sumSquare(x, axes, true), 1 / count), epsilon);
  const r = o.div(1, o.sqrt(variance));
  const gw = o.mul(g, c.input(1));
  const dot = o.mul(o.sum(o.mul(gw, x), axes, true), 1 / count);
  const pull = o.div(o.mul(dot, r), variance);
  return [o.sub(o.mul(gw, r), o.mul(x, pull)), c.wants(1) ? o.mul(g, o.mul(x, r)) : undefined];
}

function layerNorm(c: RuleContext): (Value | undefined)[] {
  const { o, g } = c;
  const { x, axes, epsilon } = readNorm(c);
  const centred = o.sub(x, o.mean(x, axes, true));
  const variance = o.add(o.mean(o.mul(centred, centred), axes, true), epsilon);
  const r = o.div(1, o.sqrt(variance));
  const z = o.mul(centred, r);
  const gw = o.mul(g, c.input(1));
  const along = o.mean(o.mul(gw, z), axes, true);
  const dx = o.mul(r, o.sub(o.sub(gw, o.mean(gw, axes, true)), o.mul(z, along)));
  return [dx, c.wants(1) ? o.mul(g, z) : undefined, g];
}

function readNorm(c: RuleContext) {
  const x = c.input(0);
  const first = positiveAxis(intAttribute(c.node, 'axis', -1), x.dims.length);
  const axes = Array.from({ length: x.dims.length - first }, (_, at) => first + at);
  return { x, axes, epsilon: floatAttribute(c.node, 'epsilon', 1e-5) };
}

/** Before opset 13 a softmax ran over all axes from `axis` (default 1) on, since then over `axis` (default -1) alone. */
function softmaxAxes(c: RuleContext): readonly number[] {
  const rank = c.input(0).dims.length;
  const axis = positiveAxis(intAttribute(c.node, 'axis', c.opset < 13 ? 1 : -1), rank);
  return c.opset < 13 ? Array.from({ length: rank - axis }, (_, at) => axis + at) : [axis];
}
