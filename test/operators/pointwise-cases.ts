import type { NodeSpec } from '../../src/onnx/build.js';
import type { GradientCase, RandomTensor } from '../support/gradient-check.js';

type Attributes = NonNullable<NodeSpec['attributes']>;
type Extra = Partial<GradientCase> & { readonly attributes?: Attributes; readonly domain?: string };

const MATRIX: RandomTensor = { dims: [2, 3] };
const POSITIVE: RandomTensor = { dims: [2, 3], from: 0.5, to: 2 };
const MICROSOFT = 'com.microsoft';

/** y = op(x). */
function unary(op: string, x: RandomTensor = MATRIX, { attributes, domain, ...rest }: Extra = {}): GradientCase {
  const node = { op, inputs: ['x'], outputs: ['y'], ...(attributes && { attributes }), ...(domain && { domain }) };
  return { nodes: [node], inputs: { x }, ...rest };
}

/** y = op(a, b). */
function binary(op: string, a: RandomTensor, b: RandomTensor, { domain, ...rest }: Extra = {}): GradientCase {
  const node = { op, inputs: ['a', 'b'], outputs: ['y'], ...(domain && { domain }) };
  return { nodes: [node], inputs: { a, b }, ...rest };
}

/** y = op(x) over axes given as an input or, before `opset` moved them, as an attribute. */
function reductions(op: string, x: RandomTensor, attributeOpset: number): GradientCase[] {
  const dims = { ...x, dims: [2, 3, 4] };
  const attribute = (axes: readonly number[], keepdims: number): GradientCase =>
    unary(op, dims, { attributes: { axes, keepdims }, opset: attributeOpset });
  return [
    attribute([-1], 1),
    attribute([0, 2], 0),
    {
      nodes: [{ op, inputs: ['x', 'axes'], outputs: ['y'], attributes: { keepdims: 0 } }],
      inputs: { x: dims },
      constants: { axes: { type: 'int64', dims: [2], values: [1, -1] } },
    },
    unary(op, dims, { attributes: { keepdims: 0 } }),
  ];
}

const condition = { type: 'bool', dims: [2, 3], values: [1, 0, 0, 1, 1, 0] } as const;
const axis = { type: 'int64', dims: [], values: [1] } as const;

/** Checks of the elementwise, activation and reduction rules, by operator. */
export const POINTWISE_CASES: Readonly<Record<string, readonly GradientCase[]>> = {
  Add: [binary('Add', MATRIX, { dims: [3] }), binary('Add', { dims: [2, 1] }, { dims: [4, 1, 3] })],
  Sub: [binary('Sub', MATRIX, { dims: [2, 1] }), binary('Sub', { dims: [] }, MATRIX)],
  Mul: [
    binary('Mul', MATRIX, { dims: [1, 3] }),
    { nodes: [{ op: 'Mul', inputs: ['x', 'x'], outputs: ['y'] }], inputs: { x: MATRIX } },
  ],
  Div: [binary('Div', MATRIX, POSITIVE), binary('Div', { dims: [1] }, POSITIVE)],
  Sum: [
    {
      nodes: [{ op: 'Sum', inputs: ['a', 'b', 'c'], outputs: ['y'] }],
      inputs: { a: MATRIX, b: { dims: [3] }, c: { dims: [2, 1] } },
    },
  ],
  Neg: [unary('Neg')],
  Abs: [unary('Abs')],
  Exp: [unary('Exp')],
  Log: [unary('Log', POSITIVE)],
  Sqrt: [unary('Sqrt', POSITIVE)],
  Reciprocal: [unary('Reciprocal', POSITIVE)],
  Sin: [unary('Sin')],
  Cos: [unary('Cos')],
  Pow: [
    binary('Pow', POSITIVE, { dims: [3], from: -2, to: 2 }),
    ...[2, 3, 0.5, -1.5].map(
      (exponent): GradientCase => ({
        nodes: [{ op: 'Pow', inputs: ['x', 'p'], outputs: ['y'] }],
        inputs: { x: exponent % 1 === 0 ? MATRIX : POSITIVE },
        constants: { p: { type: 'float', dims: [], values: [exponent] } },
      }),
    ),
    {
      nodes: [{ op: 'Pow', inputs: ['x', 'p'], outputs: ['y'] }],
      inputs: { x: MATRIX },
      constants: { p: { type: 'int64', dims: [], values: [4] } },
    },
  ],
  Where: [
    {
      nodes: [{ op: 'Where', inputs: ['condition', 'a', 'b'], outputs: ['y'] }],
      inputs: { a: MATRIX, b: { dims: [3] } },
      constants: { condition },
    },
    {
      nodes: [
        { op: 'IsNaN', inputs: ['x'], outputs: ['nan'] },
        { op: 'Where', inputs: ['nan', 'zero', 'x'], outputs: ['y'] },
      ],
      inputs: { x: MATRIX },
      constants: { zero: { type: 'float', dims: [], values: [0] } },
    },
  ],
  Max: [
    binary('Max', MATRIX, { dims: [3] }),
    {
      nodes: [{ op: 'Max', inputs: ['a', 'b', 'c'], outputs: ['y'] }],
      inputs: { a: MATRIX, b: MATRIX, c: MATRIX },
    },
  ],
  Min: [binary('Min', MATRIX, { dims: [2, 1] })],
  Clip: [
    {
      nodes: [{ op: 'Clip', inputs: ['x', 'low', 'high'], outputs: ['y'] }],
      inputs: { x: { dims: [3, 4] } },
      constants: {
        low: { type: 'float', dims: [], values: [-0.4] },
        high: { type: 'float', dims: [], values: [0.5] },
      },
    },
    {
      nodes: [{ op: 'Clip', inputs: ['x', '', 'high'], outputs: ['y'] }],
      inputs: { x: { dims: [3, 4] } },
      constants: { high: { type: 'float', dims: [], values: [0.1] } },
    },
  ],
  Cast: [
    unary('Cast', MATRIX, { attributes: { to: 11 } }),
    {
      nodes: [
        { op: 'Cast', inputs: ['x'], outputs: ['narrow'], attributes: { to: 1 } },
        { op: 'Mul', inputs: ['narrow', 'narrow'], outputs: ['square'] },
        { op: 'Cast', inputs: ['square'], outputs: ['y'], attributes: { to: 1 } },
      ],
      inputs: { x: MATRIX },
      precision: 'float32',
    },
  ],
  CumSum: [0, 1].flatMap((exclusive) =>
    [0, 1].map(
      (reverse): GradientCase => ({
        nodes: [{ op: 'CumSum', inputs: ['x', 'axis'], outputs: ['y'], attributes: { exclusive, reverse } }],
        inputs: { x: { dims: [2, 4] } },
        constants: { axis },
      }),
    ),
  ),
  Trilu: [
    unary('Trilu', { dims: [2, 3, 3] }, { attributes: { upper: 0 } }),
    {
      nodes: [{ op: 'Trilu', inputs: ['x', 'k'], outputs: ['y'], attributes: { upper: 1 } }],
      inputs: { x: { dims: [3, 4] } },
      constants: { k: axis },
    },
  ],

  ReduceSum: reductions('ReduceSum', MATRIX, 11),
  ReduceMean: reductions('ReduceMean', MATRIX, 17),
  ReduceSumSquare: reductions('ReduceSumSquare', MATRIX, 17),
  ReduceL2: reductions('ReduceL2', MATRIX, 17).map((given) => ({ ...given, precision: 'float32' })),
  ReduceLogSumExp: reductions('ReduceLogSumExp', MATRIX, 17),
  ReduceMax: reductions('ReduceMax', MATRIX, 17),
  ReduceMin: reductions('ReduceMin', MATRIX, 17),
  Softmax: [
    unary('Softmax', { dims: [2, 3, 4] }, { attributes: { axis: -1 } }),
    unary('Softmax', { dims: [2, 3, 4] }, { attributes: { axis: 1 } }),
    unary('Softmax', { dims: [2, 3, 4] }, { attributes: { axis: 1 }, opset: 11 }),
    unary('Softmax', { dims: [2, 3, 4] }, { opset: 11 }),
  ],
  LogSoftmax: [
    unary('LogSoftmax', { dims: [2, 3, 4] }, { attributes: { axis: 1 } }),
    unary('LogSoftmax', { dims: [2, 3, 4] }, { opset: 12 }),
  ],

  Sigmoid: [unary('Sigmoid')],
  Tanh: [unary('Tanh')],
  Erf: [unary('Erf', MATRIX, { precision: 'float32' })],
  Relu: [unary('Relu')],
  LeakyRelu: [
    unary('LeakyRelu', { dims: [8], from: 0.1 }, { attributes: { alpha: { float: 0.2 } }, precision: 'float32' }),
    unary('LeakyRelu', { dims: [8], to: -0.1 }, { precision: 'float32' }),
  ],
  Elu: [
    unary('Elu', { dims: [8], to: -0.1 }, { attributes: { alpha: { float: 0.7 } }, precision: 'float32' }),
    unary('Elu', { dims: [8], from: 0.1 }, { precision: 'float32' }),
  ],
  Softplus: [unary('Softplus', MATRIX, { precision: 'float32' })],
  Gelu: [
    unary('Gelu', { dims: [8], from: -3, to: 3 }, { attributes: { approximate: 'none' }, precision: 'float32' }),
    unary('Gelu', { dims: [8], from: -3, to: 3 }, { attributes: { approximate: 'tanh' }, precision: 'float32' }),
  ],
  Swish: [
    unary('Swish', { dims: [8], from: -3, to: 3 }, { opset: 24, precision: 'float32' }),
    unary(
      'Swish',
      { dims: [8], from: -3, to: 3 },
      { attributes: { alpha: { float: 1.3 } }, opset: 24, precision: 'float32' },
    ),
  ],
  'com.microsoft.Gelu': [unary('Gelu', { dims: [8], from: -3, to: 3 }, { domain: MICROSOFT, precision: 'float32' })],
  'com.microsoft.QuickGelu': [
    unary('QuickGelu', { dims: [8], from: -3, to: 3 }, { domain: MICROSOFT, precision: 'float32' }),
    unary('QuickGelu', { dims: [8] }, { attributes: { alpha: { float: 1 } }, domain: MICROSOFT, precision: 'float32' }),
  ],
  'com.microsoft.BiasGelu': [
    binary('BiasGelu', { dims: [2, 4] }, { dims: [4] }, { domain: MICROSOFT, precision: 'float32' }),
  ],
  'com.microsoft.FastGelu': [
    unary('FastGelu', { dims: [8], from: -3, to: 3 }, { domain: MICROSOFT, precision: 'float32' }),
    binary('FastGelu', { dims: [2, 4] }, { dims: [4] }, { domain: MICROSOFT, precision: 'float32' }),
  ],
};
