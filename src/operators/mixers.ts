import { findAttribute, intAttribute, intsAttribute, setIntAttribute, textAttribute } from '../onnx/attributes.js';
import type { TensorOps } from '../onnx/tensor-ops.js';
import type { Value } from '../onnx/value.js';
import { type AxisRule, TraceStop } from './axis-rule.js';
import { type Lowering, type LoweringContext, unsupported } from './gradient-rule.js';
import { isPresent } from './heads.js';
import { type Family, type Gradient, missing, type Operator, PLAIN } from './operator.js';
import type { UpdateRule } from './update-rule.js';

/** Axis of the channels in a convolution's inputs and outputs, states included. */
interface ChannelPorts {
  readonly axis: number;
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
}

/** A depthwise convolution: activations, weight `[C, 1, ..]` and bias `[C]` share the channels. */
const depthwiseAxes =
  (portsOf: (site: Parameters<AxisRule>[0]) => ChannelPorts): AxisRule =>
  (site) => {
    const { node, label, side, slot } = site;
    const [, weight = '', bias] = node.input;
    const ports = portsOf(site);
    const slots = side === 'input' ? ports.inputs : ports.outputs;
    const own = side === 'input' && (slot === 1 || slot === 2) ? 0 : slots.includes(slot) ? ports.axis : -1;
    if (site.dims(weight)[1] !== 1 || label.axis !== own || site.dims(weight)[0] !== label.unitIds.length)
      throw new TraceStop('it convolves several channels together, or along the axis of the units');
    const activations = [...ports.inputs.map((at) => node.input[at]), ...ports.outputs.map((at) => node.output[at])];
    const found = (values: readonly (string | undefined)[], axis: number) =>
      values.filter(isPresent).map((value) => ({ value, label: { axis, unitIds: label.unitIds } }));
    return { findings: [...found(activations, ports.axis), ...found([weight, bias], 0)] };
  };

const updateGroups: UpdateRule = ({ node, labelOf, remainingPositions }) => {
  const label = labelOf(node.input[0] ?? '');
  if (label !== undefined && findAttribute(node, 'group'))
    setIntAttribute(node, 'group', remainingPositions(label).length);
};

const mixer = (axis: Operator['axis'], gradient: Gradient): Operator => ({ ...PLAIN, axis, tokens: 'mixer', gradient });

/** A depthwise convolution along one axis, as a sum of shifted copies. Inputs: 0 `[B, C, S]`, 1 weight `[C, 1, K]`, 2 bias `[C]`. */
const lowerDepthwiseConv: Lowering = (c) => {
  const x = c.input(0);
  const { dims } = c.input(1);
  const isPlain =
    (intsAttribute(c.node, 'strides') ?? [1]).every((stride) => stride === 1) &&
    ['', 'NOTSET'].includes(textAttribute(c.node, 'auto_pad'));
  if (x.dims.length !== 3 || dims[1] !== 1 || dims[0] !== x.dims[1] || !isPlain)
    throw unsupported(c.node, `it is not a depthwise convolution with stride 1 ([${x.dims}] by [${dims}]).`);
  const [before = 0, after = 0] = intsAttribute(c.node, 'pads') ?? [];
  const [dilation = 1] = intsAttribute(c.node, 'dilations') ?? [];
  return [plusBias(c, convolve(c.o, c.o.pad(x, 2, { before, after }), { weight: c.input(1), dilation }))];
};

/** Causal convolution with an activation; input 3 has the preceding columns. */
const lowerCausalConv: Lowering = (c) => {
  const { o, node } = c;
  const x = c.input(0);
  if (x.dims.length !== 3) throw unsupported(node, `it convolves along more than one axis ([${x.dims}]).`);
  for (const form of ['channels_last', 'state_window'])
    if (intAttribute(node, form, 0) !== 0) throw unsupported(node, `it has "${form}".`);
  const weight = c.input(1);
  const dilation = intAttribute(node, 'dilation', 1);
  const before = ((weight.dims[2] ?? 1) - 1) * dilation;
  const columns = c.has(3) ? o.concat([c.input(3), x], 2) : o.pad(x, 2, { before, after: 0 });
  const mixed = plusBias(c, convolve(o, columns, { weight, dilation }));
  const activation = textAttribute(node, 'activation') || 'none';
  if (activation === 'none') return [mixed];
  if (activation !== 'silu' && activation !== 'swish') throw unsupported(node, `its activation is "${activation}".`);
  return [o.mul(mixed, o.sigmoid(mixed))];
};

const convolution = mixer(
  depthwiseAxes(({ node }) => {
    if (intAttribute(node, 'channels_last', 0) !== 0 || intAttribute(node, 'state_window', 0) !== 0)
      throw new TraceStop('its state or its channels are on unsupported axes');
    return { axis: 1, inputs: [0, 3], outputs: [0, 1] };
  }),
  { lower: lowerCausalConv },
);

const notImplemented = mixer(
  missing('its weights contain all gates'),
  missing('its recurrence is not implemented yet'),
);

/** Convolutions and recurrences. */
export const MIXERS = {
  Conv: {
    ...mixer(
      depthwiseAxes(() => ({ axis: 1, inputs: [0], outputs: [0] })),
      { lower: lowerDepthwiseConv },
    ),
    update: updateGroups,
  },
  'com.microsoft.CausalConvWithState': convolution,
  CausalConvWithState: convolution,
  GRU: notImplemented,
  LSTM: notImplemented,
  RNN: notImplemented,
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
