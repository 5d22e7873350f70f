import { type AxisRule, arrivedAt, type Finding, portsOf, TraceStop } from './axis-rule.js';

/** All ports share the axis, aligned from the right as broadcasting does; a port of size 1 there carries nothing. */
export const elementwise: AxisRule = (site) => {
  const from = arrivedAt(site);
  const rank = site.dims(from).length;
  const { axis, codes } = site.label;
  const findings: Finding[] = [];
  for (const { value } of portsOf(site.node)) {
    if (value === from) continue;
    const dims = site.dims(value);
    const there = axis + dims.length - rank;
    if (there < 0 || dims[there] === 1) continue;
    if (dims[there] !== codes.length) throw new TraceStop(`operands of ${codes.length} and ${dims[there]} channels`);
    findings.push({ value, label: { axis: there, codes } });
  }
  return { findings };
};

/** Input 0 and output 0 have equal dims and share every axis. */
export const sameShape: AxisRule = (site) => {
  if (site.slot !== 0) throw new TraceStop(`channels arrive at ${site.side} ${site.slot}`);
  const other = site.side === 'input' ? site.node.output[0] : site.node.input[0];
  return { findings: [{ value: other ?? '', label: site.label }] };
};

/** Operators for which `elementwise` holds at every port. */
export const ELEMENTWISE_OPS = [
  ...['Add', 'Sub', 'Mul', 'Div', 'Pow', 'Min', 'Max', 'Mod', 'And', 'Or', 'Xor', 'Equal', 'Less', 'LessOrEqual'],
  ...['Greater', 'GreaterOrEqual', 'Where', 'Neg', 'Abs', 'Exp', 'Log', 'Sqrt', 'Reciprocal', 'Sigmoid', 'Tanh', 'Erf'],
  ...['Relu', 'LeakyRelu', 'PRelu', 'Elu', 'Selu', 'Celu', 'Softplus', 'Softsign', 'HardSigmoid', 'HardSwish', 'Mish'],
  ...[
    'Gelu',
    'Swish',
    'Clip',
    'Cast',
    'Identity',
    'Dropout',
    'Not',
    'IsNaN',
    'IsInf',
    'Sign',
    'Floor',
    'Ceil',
    'Round',
  ],
  ...['Cos', 'Sin', 'ThresholdedRelu'],
] as const;

/** The same among ONNX Runtime's contrib operators; their bias is one more operand. */
export const CONTRIB_ELEMENTWISE_OPS = ['FastGelu', 'BiasGelu', 'QuickGelu', 'Gelu'] as const;
