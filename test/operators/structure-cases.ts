import type { NodeSpec } from '../../src/onnx/build.js';
import type { ConstantTensor, GradientCase } from '../support/gradient-check.js';

const ints = (values: readonly number[]): ConstantTensor => ({ type: 'int64', dims: [values.length], values });

interface Form {
  readonly attributes?: NonNullable<NodeSpec['attributes']>;
  readonly domain?: string;
  /** Constant integer inputs after the float ones, by name. */
  readonly constants?: Readonly<Record<string, ConstantTensor>>;
  readonly opset?: number;
  readonly precision?: 'float32';
  readonly outputs?: readonly string[];
}

/** y = op(floats of the given dims a, b, ..., constants). */
function given(op: string, dims: readonly (readonly number[])[], form: Form = {}): GradientCase {
  const { attributes, domain, constants = {}, opset, precision, outputs = ['y'] } = form;
  const floats = dims.map((_, at) => String.fromCharCode(97 + at));
  return {
    nodes: [
      {
        op,
        inputs: [...floats, ...Object.keys(constants)],
        outputs,
        ...(attributes && { attributes }),
        ...(domain && { domain }),
      },
    ],
    inputs: Object.fromEntries(floats.map((name, at) => [name, { dims: dims[at] ?? [] }])),
    constants,
    outputs: outputs.filter((name) => name !== ''),
    ...(opset && { opset }),
    ...(precision && { precision }),
  };
}

function slice(bounds: { starts: number[]; ends: number[]; axes: number[]; steps: number[] }): GradientCase {
  const { starts, ends, axes, steps } = bounds;
  return given('Slice', [[5, 4]], {
    constants: { starts: ints(starts), ends: ints(ends), axes: ints(axes), steps: ints(steps) },
  });
}

/** Elements of `a` at places replaced by those of `b`, or increased by them. */
const scatter = (attributes: NonNullable<NodeSpec['attributes']>, values: readonly number[]): GradientCase => ({
  nodes: [{ op: 'ScatterElements', inputs: ['a', 'index', 'b'], outputs: ['y'], attributes }],
  inputs: { a: { dims: [3, 4] }, b: { dims: [3, 2] } },
  constants: { index: { type: 'int64', dims: [3, 2], values } },
});
/** Rows of `a` replaced by those of `b`, or increased by them. */
const scatterRows = (
  index: { readonly dims: readonly number[]; readonly values: readonly number[] },
  dims: readonly number[],
  attributes: NonNullable<NodeSpec['attributes']> = {},
): GradientCase => ({
  nodes: [{ op: 'ScatterND', inputs: ['a', 'index', 'b'], outputs: ['y'], attributes }],
  inputs: { a: { dims: [5, 3] }, b: { dims } },
  constants: { index: { type: 'int64', ...index } },
});
const topK = (attributes: NonNullable<NodeSpec['attributes']>): GradientCase => ({
  ...given('TopK', [[3, 5]], { constants: { k: ints([2]) }, attributes, outputs: ['y', 'index'] }),
  outputs: ['y'],
});

const MICROSOFT = 'com.microsoft';
const gemm = (transA: number, transB: number): GradientCase =>
  given('Gemm', [transA ? [3, 2] : [2, 3], transB ? [4, 3] : [3, 4], [4]], {
    attributes: { transA, transB, alpha: { float: 0.5 }, beta: { float: 2 } },
  });
const fusedMatMul = (transA: number, transB: number): GradientCase =>
  given('FusedMatMul', [transA ? [2, 3, 2] : [2, 2, 3], transB ? [2, 4, 3] : [2, 3, 4]], {
    attributes: { transA, transB, alpha: { float: 0.5 } },
    domain: MICROSOFT,
    precision: 'float32',
  });

/** A skip norm with its optional inputs and with every output that may be used. */
function skipNorm(op: string, { vectors, outputs }: { vectors: number; outputs: readonly string[] }): GradientCase {
  return given(op, [[1, 3, 4], [1, 3, 4], ...Array.from({ length: vectors }, () => [4])], {
    domain: MICROSOFT,
    attributes: { epsilon: { float: 1e-5 } },
    outputs,
    precision: 'float32',
  });
}

/** Checks of the movement, linear and normalisation rules, by operator. */
export const STRUCTURE_CASES: Readonly<Record<string, readonly GradientCase[]>> = {
  Identity: [given('Identity', [[2, 3]])],
  Dropout: [given('Dropout', [[2, 3]])],
  Reshape: [given('Reshape', [[2, 6]], { constants: { shape: ints([0, 3, -1]) } })],
  Flatten: [given('Flatten', [[2, 3, 2]], { attributes: { axis: 2 } })],
  Squeeze: [
    given('Squeeze', [[2, 1, 3]], { constants: { axes: ints([1]) } }),
    given('Squeeze', [[2, 1, 3]], { attributes: { axes: [1] }, opset: 11 }),
  ],
  Unsqueeze: [
    given('Unsqueeze', [[2, 3]], { constants: { axes: ints([0, -1]) } }),
    given('Unsqueeze', [[2, 3]], { attributes: { axes: [1] }, opset: 11 }),
  ],
  Transpose: [given('Transpose', [[2, 3, 4]], { attributes: { perm: [2, 0, 1] } }), given('Transpose', [[2, 3]])],
  Expand: [given('Expand', [[2, 1, 3]], { constants: { shape: ints([4, 2, 2, 3]) } })],
  Tile: [
    given('Tile', [[2, 3]], { constants: { repeats: ints([3, 2]) } }),
    given('Tile', [[2, 3]], { constants: { repeats: ints([2, 1]) } }),
  ],
  Split: [
    given('Split', [[2, 6]], { attributes: { axis: 1, num_outputs: 3 }, outputs: ['y', 'z', 'w'] }),
    given('Split', [[2, 6]], {
      attributes: { axis: -1 },
      constants: { split: ints([1, 3, 2]) },
      outputs: ['y', 'z', 'w'],
    }),
    {
      ...given('Split', [[2, 6]], { attributes: { axis: 1, split: [2, 4] }, outputs: ['y', 'z'], opset: 11 }),
      outputs: ['z'],
    },
  ],
  Concat: [
    given(
      'Concat',
      [
        [2, 3],
        [2, 1],
        [2, 2],
      ],
      { attributes: { axis: -1 } },
    ),
  ],
  Slice: [
    slice({ starts: [1], ends: [4], axes: [0], steps: [1] }),
    slice({ starts: [-3, 1], ends: [9223372036854775000, -1], axes: [0, 1], steps: [1, 1] }),
    slice({ starts: [0], ends: [5], axes: [0], steps: [2] }),
    slice({ starts: [1, 0], ends: [5, 4], axes: [0, 1], steps: [2, 3] }),
    slice({ starts: [-1], ends: [-9223372036854775000], axes: [-2], steps: [-1] }),
    slice({ starts: [3], ends: [-6], axes: [0], steps: [-2] }),
    given('Slice', [[5, 4]], { constants: { starts: ints([1, 1]), ends: ints([3, 4]) } }),
    {
      // The two halves of rotate-half, with a gap between them and an overlap with a third.
      nodes: [
        { op: 'Slice', inputs: ['x', 'zero', 'two', 'zero'], outputs: ['y'] },
        { op: 'Slice', inputs: ['x', 'three', 'six', 'zero'], outputs: ['z'] },
        { op: 'Slice', inputs: ['x', 'two', 'three', 'one'], outputs: ['w'] },
      ],
      inputs: { x: { dims: [6, 3] } },
      constants: { zero: ints([0]), one: ints([1]), two: ints([2]), three: ints([3]), six: ints([6]) },
      outputs: ['y', 'z', 'w'],
    },
    {
      nodes: [
        { op: 'Slice', inputs: ['x', 'zero', 'two'], outputs: ['y'] },
        { op: 'Slice', inputs: ['x', 'one', 'three'], outputs: ['z'] },
      ],
      inputs: { x: { dims: [4] } },
      constants: { zero: ints([0]), one: ints([1]), two: ints([2]), three: ints([3]) },
      outputs: ['y', 'z'],
    },
  ],
  TopK: [topK({}), topK({ axis: 0, largest: 0 })],
  ScatterElements: [
    scatter({ axis: 1 }, [0, 3, 2, 1, 1, 0]),
    scatter({ axis: 1, reduction: 'add' }, [0, 3, 2, 2, 1, 0]),
  ],
  GatherElements: [
    given('GatherElements', [[3, 4]], {
      constants: { index: { type: 'int64', dims: [3, 2], values: [0, 3, 2, 2, 1, 0] } },
      attributes: { axis: 1 },
    }),
  ],
  ScatterND: [
    scatterRows({ dims: [2, 1], values: [3, 0] }, [2, 3]),
    scatterRows({ dims: [2, 1, 1], values: [1, 4] }, [2, 1, 3], { reduction: 'add' }),
  ],
  GatherND: [
    given('GatherND', [[5, 2]], { constants: { index: { type: 'int64', dims: [1, 1], values: [3] } } }),
    given('GatherND', [[5, 2, 2]], { constants: { index: { type: 'int64', dims: [2, 2, 1], values: [4, 0, 4, 2] } } }),
  ],
  Gather: [
    given('Gather', [[3, 4]], {
      constants: { index: { type: 'int64', dims: [], values: [-1] } },
      attributes: { axis: 1 },
    }),
    given('Gather', [[5, 2]], { constants: { index: ints([1, 2, 3]) } }),
    given('Gather', [[5, 2]], { constants: { index: { type: 'int64', dims: [2, 2], values: [4, 0, 4, -2] } } }),
    given('Gather', [[2, 5]], { constants: { index: ints([3, 3]) }, attributes: { axis: 1 } }),
  ],
  Pad: [given('Pad', [[2, 3]], { constants: { pads: ints([1, 0, 0, 2]) } })],

  MatMul: [
    given('MatMul', [
      [2, 3],
      [3, 4],
    ]),
    given('MatMul', [
      [2, 2, 3],
      [3, 4],
    ]),
    given('MatMul', [
      [2, 1, 2, 3],
      [3, 3, 4],
    ]),
    given('MatMul', [[3], [3, 4]]),
    given('MatMul', [[2, 2, 3], [3]]),
    given('MatMul', [[3], [2, 3, 4]]),
    given('MatMul', [[3], [3]]),
    given(
      'MatMul',
      [
        [2, 2, 3],
        [3, 4],
      ],
      { precision: 'float32' },
    ),
    given(
      'MatMul',
      [
        [2, 1, 2, 3],
        [3, 3, 4],
      ],
      { precision: 'float32' },
    ),
  ],
  Gemm: [
    gemm(0, 0),
    gemm(0, 1),
    gemm(1, 0),
    gemm(1, 1),
    given('Gemm', [
      [2, 3],
      [3, 4],
    ]),
    { ...gemm(0, 1), precision: 'float32' },
  ],
  'com.microsoft.FusedMatMul': [fusedMatMul(0, 0), fusedMatMul(0, 1), fusedMatMul(1, 0), fusedMatMul(1, 1)],
  Einsum: [
    given(
      'Einsum',
      [
        [2, 3, 4],
        [2, 4, 2],
      ],
      { attributes: { equation: 'bij,bjk->bik' } },
    ),
    given(
      'Einsum',
      [
        [2, 3],
        [4, 3],
      ],
      { attributes: { equation: 'i j, k j -> k i' } },
    ),
    given('Einsum', [[2, 3], [3]], { attributes: { equation: 'ij,j' } }),
    given('Einsum', [[2, 3, 4]], { attributes: { equation: 'abc->ca' } }),
    given(
      'Einsum',
      [
        [2, 3],
        [3, 2],
        [2, 4],
      ],
      { attributes: { equation: 'ab,bc,cd->ad' } },
    ),
  ],

  LayerNormalization: [
    given('LayerNormalization', [[2, 3, 4], [4], [4]]),
    given(
      'LayerNormalization',
      [
        [2, 3, 4],
        [3, 4],
        [3, 4],
      ],
      { attributes: { axis: 1, epsilon: { float: 0.1 } } },
    ),
    given('LayerNormalization', [[2, 3, 4], [4]]),
  ],
  SimplifiedLayerNormalization: [
    given('SimplifiedLayerNormalization', [[2, 3, 4], [4]], { attributes: { epsilon: { float: 0.01 } } }),
  ],
  RMSNormalization: [
    given('RMSNormalization', [[2, 3, 4], [4]], { opset: 23 }),
    given(
      'RMSNormalization',
      [
        [2, 3, 4],
        [3, 4],
      ],
      { opset: 23, attributes: { axis: -2 } },
    ),
  ],
  LpNormalization: [
    given('LpNormalization', [[2, 3, 4]]),
    given('LpNormalization', [[2, 3, 4]], { attributes: { axis: 1, p: 2 } }),
  ],
  'com.microsoft.SkipSimplifiedLayerNormalization': [
    skipNorm('SkipSimplifiedLayerNormalization', { vectors: 1, outputs: ['y', '', '', 'sum'] }),
    skipNorm('SkipSimplifiedLayerNormalization', { vectors: 2, outputs: ['y', '', '', 'sum'] }),
    skipNorm('SkipSimplifiedLayerNormalization', { vectors: 2, outputs: ['y'] }),
    {
      ...skipNorm('SkipSimplifiedLayerNormalization', { vectors: 1, outputs: ['y', '', '', 'sum'] }),
      outputs: ['sum'],
      wanted: ['a', 'b'],
    },
  ],
  'com.microsoft.SkipLayerNormalization': [
    skipNorm('SkipLayerNormalization', { vectors: 1, outputs: ['y'] }),
    skipNorm('SkipLayerNormalization', { vectors: 2, outputs: ['y', '', '', 'sum'] }),
    skipNorm('SkipLayerNormalization', { vectors: 3, outputs: ['y', '', '', 'sum'] }),
    given('SkipLayerNormalization', [[2, 3, 4], [3, 4], [4], [4]], { domain: MICROSOFT, precision: 'float32' }),
  ],
};
