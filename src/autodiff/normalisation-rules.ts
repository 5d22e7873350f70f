import { floatAttribute, intAttribute } from '../graph/attributes.js';
import { positiveAxis, type Value } from './value.js';
import type { RuleContext, VjpRule } from './vjp-rule.js';

/**
 * Gradients of the norms, with w the scale and gw = g w.
 * RMS norm: y = x r w, r = (mean(x^2) + eps)^(-1/2): dx = r gw - x r^3 mean(gw x).
 * Layer norm: y = z w + b, z = (x - mean(x)) r, r = (var(x) + eps)^(-1/2): dx = r (gw - mean(gw) - z mean(gw z)).
 * Skip norms normalise s = input + skip (+ bias) and may hand s out as their fourth output, whose cotangent adds to ds.
 */
export const NORMALISATION_RULES = {
  LayerNormalization: (c) => {
    const { dx, dw, db } = layerNorm(c, { x: c.input(0), scale: 1, axis: intAttribute(c.node, 'axis', -1) });
    return [dx, dw(), db()];
  },
  SimplifiedLayerNormalization: (c) => rmsRule(c),
  RMSNormalization: (c) => rmsRule(c),
  'com.microsoft.SkipLayerNormalization': (c) =>
    skipRule(c, { bias: 4, norm: (x) => layerNorm(c, { x, scale: 2, axis: -1, epsilon: 1e-12 }), shift: 3 }),
  'com.microsoft.SkipSimplifiedLayerNormalization': (c) =>
    skipRule(c, { bias: 3, norm: (x) => rmsNorm(c, { x, scale: 2, axis: -1, epsilon: 1e-12 }) }),
} as const satisfies Record<string, VjpRule>;

interface NormProblem {
  readonly x: Value;
  /** Input that holds w. */
  readonly scale: number;
  readonly axis: number;
  /** Default where the node names none; ONNX's own norms say 1e-5. */
  readonly epsilon?: number;
}

interface NormGradient {
  readonly dx: Value;
  readonly dw: () => Value | undefined;
  readonly db: () => Value | undefined;
}

function rmsRule(c: RuleContext): (Value | undefined)[] {
  const { dx, dw } = rmsNorm(c, { x: c.input(0), scale: 1, axis: intAttribute(c.node, 'axis', -1) });
  return [dx, dw()];
}

function rmsNorm(c: RuleContext, { x, scale, axis, epsilon = 1e-5 }: NormProblem): NormGradient {
  const { o, g } = c;
  const axes = normalisedAxes(x, axis);
  const count = axes.reduce((product, at) => product * (x.dims[at] ?? 1), 1);
  const variance = o.add(o.mul(o.sumSquare(x, axes, true), 1 / count), floatAttribute(c.node, 'epsilon', epsilon));
  const r = o.div(1, o.sqrt(variance));
  const gw = o.mul(g, c.input(scale));
  const dot = o.mul(o.sum(o.mul(gw, x), axes, true), 1 / count);
  const pull = o.div(o.mul(dot, r), variance);
  return {
    dx: o.sub(o.mul(gw, r), o.mul(x, pull)),
    dw: () => (c.wants(scale) ? o.mul(g, o.mul(x, r)) : undefined),
    db: () => undefined,
  };
}

function layerNorm(c: RuleContext, { x, scale, axis, epsilon = 1e-5 }: NormProblem): NormGradient {
  const { o, g } = c;
  const axes = normalisedAxes(x, axis);
  const centred = o.sub(x, o.mean(x, axes, true));
  const variance = o.add(o.mean(o.mul(centred, centred), axes, true), floatAttribute(c.node, 'epsilon', epsilon));
  const r = o.div(1, o.sqrt(variance));
  const z = o.mul(centred, r);
  const gw = o.mul(g, c.input(scale));
  const along = o.mean(o.mul(gw, z), axes, true);
  return {
    dx: o.mul(r, o.sub(o.sub(gw, o.mean(gw, axes, true)), o.mul(z, along))),
    dw: () => (c.wants(scale) ? o.mul(g, z) : undefined),
    db: () => g,
  };
}

interface SkipProblem {
  /** Input that is added to the sum, and for layer norm the one that is added to the result. */
  readonly bias: number;
  readonly shift?: number;
  readonly norm: (sum: Value) => NormGradient;
}

function skipRule(c: RuleContext, { bias, shift, norm }: SkipProblem): (Value | undefined)[] {
  const passed = c.cotangent(3);
  const normed = c.cotangent(0);
  const { dx, dw, db } = normed === undefined ? NOTHING : norm(residualSum(c, bias));
  const ds = dx === undefined ? passed : passed === undefined ? dx : c.o.add(dx, passed);
  const gradients: (Value | undefined)[] = [ds, ds, dw()];
  if (shift !== undefined) gradients[shift] = db();
  gradients[bias] = ds;
  return Array.from(gradients);
}

const NOTHING = { dx: undefined, dw: () => undefined, db: () => undefined } as const;

function residualSum(c: RuleContext, bias: number): Value {
  if (c.hasOutput(3)) return c.output(3);
  const sum = c.o.add(c.input(0), c.input(1));
  return c.has(bias) ? c.o.add(sum, c.input(bias)) : sum;
}

function normalisedAxes({ dims }: Value, axis: number): number[] {
  const first = positiveAxis(axis, dims.length);
  return Array.from({ length: dims.length - first }, (_, at) => first + at);
}
