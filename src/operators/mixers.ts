import { intsAttribute, textAttribute } from '../graph/attributes.js';
import type { TensorOps } from '../graph/tensor-ops.js';
import type { Value } from '../graph/value.js';
import { type Lowering, type LoweringContext, unsupported } from './gradient-rule.js';
import { type Family, type Gradient, missing, type Operator, PLAIN } from './operator.js';

/** A part that mixes tokens otherwise than attention stays as it is, so that no channels are followed through it. */
const mixer = (gradient: Gradient): Operator => ({
  ...PLAIN,
  axis: missing('tokens meet there otherwise than in attention; only attention and FFNs are pruned'),
  tokens: 'mixer',
  gradient,
});

/** A convolution of each channel by itself along one axis, as a sum of shifted copies. Inputs: 0 `[B, C, S]`, 1 weight `[C, 1, K]`, 2 bias `[C]`. */
const convolveEach: Lowering = (c) => {
  const x = c.input(0);
  const { dims } = c.input(1);
  const isPlain =
    (intsAttribute(c.node, 'strides') ?? [1]).every((stride) => stride === 1) &&
    ['', 'NOTSET'].includes(textAttribute(c.node, 'auto_pad'));
  if (x.dims.length !== 3 || dims[1] !== 1 || dims[0] !== x.dims[1] || !isPlain)
    throw unsupported(
      c.node,
      `it convolves more than each channel by itself, step by step ([${x.dims}] by [${dims}]).`,
    );
  const [before = 0, after = 0] = intsAttribute(c.node, 'pads') ?? [];
  const [dilation = 1] = intsAttribute(c.node, 'dilations') ?? [];
  return [plusBias(c, convolve(c.o, c.o.pad(x, 2, { before, after }), { weight: c.input(1), dilation }))];
};

/** The same, with the K - 1 columns before the first as input 3, and an activation. */
const convolveBehindState: Lowering = (c) => {
  const { o } = c;
  const x = c.input(0);
  if (x.dims.length !== 3) throw unsupported(c.node, `it convolves along more than one axis ([${x.dims}]).`);
  const weight = c.input(1);
  const before = (weight.dims[2] ?? 1) - 1;
  const whole = c.has(3) ? o.concat([c.input(3), x], 2) : o.pad(x, 2, { before, after: 0 });
  const made = plusBias(c, convolve(o, whole, { weight, dilation: 1 }));
  const activation = textAttribute(c.node, 'activation') || 'none';
  if (activation === 'none') return [made];
  if (activation !== 'silu' && activation !== 'swish') throw unsupported(c.node, `its activation is "${activation}".`);
  return [o.mul(made, o.sigmoid(made))];
};

const unwritten = mixer(missing('its recurrence is not written out yet'));

/** Convolutions and recurrences. */
export const MIXERS = {
  Conv: mixer({ lower: convolveEach }),
  'com.microsoft.CausalConvWithState': mixer({ lower: convolveBehindState }),
  CausalConvWithState: unwritten,
  'com.microsoft.LinearAttention': unwritten,
  ...{ LinearAttention: unwritten, GRU: unwritten, LSTM: unwritten, RNN: unwritten },
} as const satisfies Family;

function convolve(o: TensorOps, x: Value, { weight, dilation }: { weight: Value; dilation: number }): Value {
  const [channels = 1, , taps = 1] = weight.dims;
  const columns = (x.dims[2] ?? 1) - dilation * (taps - 1);
  const rows = o.reshape(weight, [1, channels, taps]);
  const terms = Array.from({ length: taps }, (_, tap) =>
    o.mul(
      o.slice(x, 2, { start: tap * dilation, end: tap * dilation + columns }),
      o.slice(rows, 2, { start: tap, end: tap + 1 }),
    ),
  );
  return terms.reduce((total, term) => o.add(total, term));
}

const plusBias = (c: LoweringContext, x: Value): Value =>
  c.has(2) ? c.o.add(x, c.o.reshape(c.input(2), [1, x.dims[1] ?? 1, 1])) : x;
