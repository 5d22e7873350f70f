import type { NodeSpec } from '../../src/onnx/build.js';
import type { ConstantTensor, GradientCase } from '../support/gradient-check.js';

type Attributes = NonNullable<NodeSpec['attributes']>;
type Dims = readonly number[];

const MICROSOFT = 'com.microsoft';
const BATCH = 2;
const ROWS = 3;

const int32 = (dims: Dims, values: readonly number[]): ConstantTensor => ({ type: 'int32', dims, values });

/** Cos and sin caches, positions down, `half` angles across. */
function caches(half: number, positions = 4): Record<'cos' | 'sin', ConstantTensor> {
  const angles = Array.from({ length: positions * half }, (_, at) => Math.floor(at / half) / 2 ** (at % half) + 0.3);
  const dims = [positions, half];
  return {
    cos: { type: 'float', dims, values: angles.map(Math.cos) },
    sin: { type: 'float', dims, values: angles.map(Math.sin) },
  };
}

interface Fused {
  readonly op: string;
  readonly inputs: readonly string[];
  /** Dims of the float inputs that are differentiated. */
  readonly floats: Readonly<Record<string, Dims>>;
  readonly constants?: Readonly<Record<string, ConstantTensor>>;
  readonly attributes: Attributes;
  readonly outputs?: readonly string[];
}

function fused({ op, inputs, floats, constants = {}, attributes, outputs = ['y'] }: Fused): GradientCase {
  return {
    nodes: [{ op, domain: MICROSOFT, inputs, outputs, attributes }],
    inputs: Object.fromEntries(Object.entries(floats).map(([name, dims]) => [name, { dims }])),
    constants,
    outputs: ['y'],
    precision: 'float32',
  };
}

const rotary = (attributes: Attributes, dims: Dims, half: number): GradientCase =>
  fused({
    op: 'RotaryEmbedding',
    inputs: ['x', 'positions', 'cos', 'sin'],
    floats: { x: dims },
    constants: { positions: { type: 'int64', dims: [BATCH, ROWS], values: [0, 1, 2, 1, 2, 3] }, ...caches(half) },
    attributes,
  });

/** Positions that differ between the three axes. */
const positions3 = {
  type: 'int64',
  dims: [3, BATCH, ROWS],
  values: [0, 1, 2, 1, 2, 3, 3, 2, 1, 0, 1, 2, 2, 0, 3, 1, 3, 0],
} as const;

const rotaryOnAxes = (attributes: Attributes, dims: Dims, half: number): GradientCase =>
  fused({
    op: 'MRotaryEmbedding',
    inputs: ['x', 'positions', 'cos', 'sin'],
    floats: { x: dims },
    constants: { positions: positions3, ...caches(half) },
    attributes,
  });

const standardRotary = (attributes: Attributes, dims: Dims, half: number): GradientCase => ({
  ...rotary({}, dims, half),
  nodes: [{ op: 'RotaryEmbedding', inputs: ['x', 'cos', 'sin', 'positions'], outputs: ['y'], attributes }],
  opset: 23,
});

/** GPT-2's fused attention: 2 heads of 2 channels on inputs of 3. */
function packedAttention(extra: Partial<Fused> & { readonly attributes?: Attributes }): GradientCase {
  return fused({
    op: 'Attention',
    inputs: ['x', 'w', 'b', ...(extra.inputs ?? [])],
    floats: { x: [BATCH, ROWS, 3], w: [3, 12], b: [12], ...extra.floats },
    constants: extra.constants ?? {},
    attributes: { num_heads: 2, ...extra.attributes },
    outputs: extra.outputs ?? ['y'],
  });
}

/** Multi-head attention: 2 heads of 2 channels, separate query, key and value. */
function multiHead(extra: Partial<Fused> & { readonly attributes?: Attributes }): GradientCase {
  const width = [BATCH, ROWS, 4];
  return fused({
    op: 'MultiHeadAttention',
    inputs: extra.inputs ?? ['q', 'k', 'v'],
    floats: extra.floats ?? { q: width, k: width, v: width },
    constants: extra.constants ?? {},
    attributes: { num_heads: 2, ...extra.attributes },
    outputs: extra.outputs ?? ['y'],
  });
}

interface GroupQuery {
  readonly attributes?: Attributes;
  readonly packed?: boolean;
  /** Inputs from number 7 on. */
  readonly more?: readonly string[];
  readonly floats?: Readonly<Record<string, Dims>>;
  readonly half?: number;
  readonly headSize?: number;
  readonly rows?: number;
}

/** Grouped-query attention: 4 query heads on 2 KV heads. */
function groupQuery(form: GroupQuery): GradientCase {
  const { packed = false, rows = ROWS, headSize = 8, more = [], half = headSize / 2 } = form;
  const width = (heads: number): Dims => [1, rows, heads * headSize];
  return fused({
    op: 'GroupQueryAttention',
    inputs: [...(packed ? ['q', '', ''] : ['q', 'k', 'v']), 'pastK', 'pastV', 'lengths', 'total', ...more],
    floats: packed ? { q: width(8), ...form.floats } : { q: width(4), k: width(2), v: width(2), ...form.floats },
    constants: {
      pastK: { type: 'float', dims: [1, 2, 0, headSize], values: [] },
      pastV: { type: 'float', dims: [1, 2, 0, headSize], values: [] },
      lengths: int32([1], [rows - 1]),
      total: int32([], [rows]),
      ...caches(half, 8),
    },
    attributes: { num_heads: 4, kv_num_heads: 2, ...form.attributes },
    outputs: ['y', 'presentK', 'presentV'],
  });
}

const ROTATED = { attributes: { do_rotary: 1 }, more: ['cos', 'sin'], headSize: 16 } as const;

function standardAttention(
  attributes: Attributes,
  more: Partial<GradientCase> & { readonly masked?: boolean } = {},
): GradientCase {
  const { masked = false, ...rest } = more;
  return {
    nodes: [{ op: 'Attention', inputs: ['q', 'k', 'v', ...(masked ? ['mask'] : [])], outputs: ['y'], attributes }],
    inputs: { q: { dims: [BATCH, ROWS, 8] }, k: { dims: [BATCH, ROWS, 4] }, v: { dims: [BATCH, ROWS, 4] } },
    opset: 23,
    precision: 'float32',
    ...rest,
  };
}

/** 4-bit product: K = 40 in blocks of 32, so that the last block is padded. */
function nBits(bits: number, zeroPoints: 'none' | 'packed' | 'float', bias = false): GradientCase {
  const [outCount, inCount, size] = [3, 40, 32];
  const blocks = 2;
  const bytes = (count: number): number[] => Array.from({ length: count }, (_, at) => (at * 37 + 11) % 256);
  const packed = outCount * Math.ceil((blocks * bits) / 8);
  const zeros: Record<typeof zeroPoints, Record<string, ConstantTensor>> = {
    none: {},
    packed: { zero: { type: 'uint8', dims: [packed], values: bytes(packed) } },
    float: { zero: { type: 'float', dims: [outCount, blocks], values: [1, 2, 3, 4, 5, 6] } },
  };
  return fused({
    op: 'MatMulNBits',
    inputs: ['x', 'w', 'scales', zeroPoints === 'none' ? '' : 'zero', '', bias ? 'bias' : ''],
    floats: { x: [2, 2, inCount], ...(bias && { bias: [outCount] }) },
    constants: {
      w: {
        type: 'uint8',
        dims: [outCount, blocks, (size * bits) / 8],
        values: bytes((outCount * blocks * size * bits) / 8),
      },
      scales: { type: 'float', dims: [outCount, blocks], values: [0.1, 0.2, 0.3, 0.1, 0.05, 0.2] },
      ...zeros[zeroPoints],
    },
    attributes: { bits, block_size: size, N: outCount, K: inCount },
  });
}

/** A causal convolution of 3 channels by 3 taps. */
function convolution(
  attributes: Attributes & { readonly dilation?: number },
  more: Readonly<Record<'bias' | 'past', boolean>>,
): GradientCase {
  return fused({
    op: 'CausalConvWithState',
    inputs: ['x', 'w', more.bias ? 'bias' : '', ...(more.past ? ['past'] : [])],
    floats: {
      x: [BATCH, 3, 4],
      w: [3, 1, 3],
      ...(more.bias && { bias: [3] }),
      ...(more.past && { past: [BATCH, 3, 2 * (attributes.dilation ?? 1)] }),
    },
    attributes: { ndim: 1, ...attributes },
    outputs: ['y', 'present'],
  });
}

/** ONNX's own convolution, of each channel by itself. */
const depthwise = (attributes: Attributes, bias = false): GradientCase => ({
  nodes: [{ op: 'Conv', inputs: ['x', 'w', ...(bias ? ['b'] : [])], outputs: ['y'], attributes }],
  inputs: { x: { dims: [BATCH, 3, 5] }, w: { dims: [3, 1, 3] }, ...(bias && { b: { dims: [3] } }) },
  precision: 'float32',
});

/** 5 tokens of 4 channels, 3 experts of 2 neurons; the router's scores lie far enough apart for differences. */
function experts(
  attributes: Attributes,
  { rowsPerNeuron = 1, bias = false }: { rowsPerNeuron?: number; bias?: boolean } = {},
): GradientCase {
  const { inputs, ...given } = fused({
    op: 'MoE',
    inputs: ['x', 'scores', 'w1', bias ? 'b1' : '', 'w2', bias ? 'b2' : ''],
    floats: {
      x: [1, 5, 4],
      offsets: [5, 3],
      w1: [3, 2 * rowsPerNeuron, 4],
      w2: [3, 4, 2],
      ...(bias && { b1: [3, 2 * rowsPerNeuron], b2: [3, 4] }),
    },
    constants: { base: { type: 'float', dims: [5, 3], values: [0, 3, 6, 3, 0, 6, 6, 3, 0, 0, 6, 3, 3, 6, 0] } },
    attributes,
  });
  const scores = { op: 'Add', inputs: ['offsets', 'base'], outputs: ['scores'] };
  return { ...given, inputs, nodes: [scores, ...given.nodes] };
}

interface PackedShape {
  readonly blocks?: number;
  readonly points?: boolean;
  readonly neurons?: number;
  readonly tokens?: number;
}

/** Some tokens of 32 channels, 3 experts of 32 neurons or more, in packed weights with a scale a row, or one a block of 16. */
function packedExperts(
  bits: number,
  attributes: Attributes,
  { blocks, points = false, neurons = 32, tokens = 5 }: PackedShape = {},
) {
  const packed = (seed: number, dims: Dims): ConstantTensor => ({
    type: 'uint8',
    dims,
    values: Array.from(
      { length: dims.reduce((product, dim) => product * dim, 1) },
      (_, at) => (at * at * 31 + at * seed) % 256,
    ),
  });
  const scales = (rows: number): ConstantTensor => {
    const dims = [3, rows, ...(blocks === undefined ? [] : [blocks])];
    const values = Array.from(
      { length: dims.reduce((product, dim) => product * dim, 1) },
      (_, at) => (0.02 + (at % 5) * 0.005) / 2 ** (bits - 4),
    );
    return { type: 'float', dims, values };
  };
  const rowsPerNeuron = attributes.activation_type === 'swiglu' ? 2 : 1;
  const pointDims = (rows: number): Dims => [3, rows, Math.ceil(((blocks ?? 1) * bits) / 8)];
  const { inputs, ...given } = fused({
    op: 'QMoE',
    inputs: ['x', 'scores', 'w1', 's1', 'b1', 'w2', 's2', '', '', '', '', ...(points ? ['z1', 'z2'] : [])],
    floats: { x: [1, tokens, 32], offsets: [tokens, 3], b1: [3, neurons * rowsPerNeuron] },
    constants: {
      base: {
        type: 'float',
        dims: [tokens, 3],
        values: [0, 3, 6, 3, 0, 6, 6, 3, 0, 0, 6, 3, 3, 6, 0].slice(0, 3 * tokens),
      },
      w1: packed(7, [3, neurons * rowsPerNeuron, (32 * bits) / 8]),
      s1: scales(neurons * rowsPerNeuron),
      w2: packed(11, [3, 32, (neurons * bits) / 8]),
      s2: scales(32),
      ...(points && { z1: packed(3, pointDims(neurons * rowsPerNeuron)), z2: packed(5, pointDims(32)) }),
    },
    attributes: { ...attributes, expert_weight_bits: bits, ...(blocks !== undefined && { block_size: 32 / blocks }) },
  });
  const scores = { op: 'Add', inputs: ['offsets', 'base'], outputs: ['scores'] };
  return { ...given, inputs, nodes: [scores, ...given.nodes], wanted: ['x', 'offsets'] };
}

/** Checks of the rotary rules and of everything that is lowered, by operator. */
export const ATTENTION_CASES: Readonly<Record<string, readonly GradientCase[]>> = {
  'com.microsoft.RotaryEmbedding': [
    rotary({}, [BATCH, ROWS, 8], 2),
    rotary({ interleaved: 1 }, [BATCH, ROWS, 8], 2),
    rotary({}, [BATCH, 2, ROWS, 4], 2),
    rotary({ num_heads: 2, rotary_embedding_dim: 4 }, [BATCH, ROWS, 16], 2),
  ],
  'com.microsoft.MRotaryEmbedding': [
    rotaryOnAxes({ mrope_section: [1, 1, 1] }, [BATCH, 2, ROWS, 6], 3),
    rotaryOnAxes({ mrope_section: [2, 1, 1], mrope_layout: 1, num_heads: 2 }, [BATCH, ROWS, 16], 4),
    rotaryOnAxes(
      { mrope_section: [1, 1, 1], interleaved: 1, num_heads: 2, rotary_embedding_dim: 6 },
      [BATCH, ROWS, 16],
      3,
    ),
  ],
  RotaryEmbedding: [
    standardRotary({}, [BATCH, 2, ROWS, 4], 2),
    standardRotary({ num_heads: 2, interleaved: 1 }, [BATCH, ROWS, 8], 2),
    standardRotary({ num_heads: 2, rotary_embedding_dim: 4 }, [BATCH, ROWS, 16], 2),
  ],
  Conv: [
    depthwise({ pads: [2, 2], group: 3 }),
    depthwise({ pads: [4, 0], group: 3, dilations: [2] }, true),
    depthwise({ group: 3, kernel_shape: [3] }, true),
  ],
  'com.microsoft.CausalConvWithState': [
    convolution({}, { bias: false, past: true }),
    convolution({ activation: 'silu' }, { bias: true, past: true }),
    convolution({ activation: 'none' }, { bias: true, past: false }),
    convolution({ dilation: 2 }, { bias: false, past: true }),
    convolution({ dilation: 2 }, { bias: false, past: false }),
  ],
  'com.microsoft.MoE': [
    experts(
      { k: 2, normalize_routing_weights: 1, activation_type: 'swiglu', swiglu_fusion: 1 },
      { rowsPerNeuron: 2, bias: true },
    ),
    experts({ k: 2, normalize_routing_weights: 1, activation_type: 'silu' }, { bias: true }),
    experts({ k: 2, normalize_routing_weights: 0, activation_type: 'silu' }, { bias: true }),
    experts({ k: 1, normalize_routing_weights: 0, activation_type: 'identity' }),
    experts(
      {
        k: 2,
        normalize_routing_weights: 1,
        activation_type: 'swiglu',
        swiglu_fusion: 1,
        activation_alpha: { float: 1.7 },
        activation_beta: { float: 1 },
        swiglu_limit: { float: 0.4 },
      },
      { rowsPerNeuron: 2 },
    ),
  ],
  'com.microsoft.QMoE': [
    packedExperts(
      4,
      { k: 2, normalize_routing_weights: 1, activation_type: 'swiglu', swiglu_fusion: 1 },
      { blocks: 2 },
    ),
    packedExperts(4, { k: 2, normalize_routing_weights: 1, activation_type: 'silu' }),
    packedExperts(8, { k: 1, normalize_routing_weights: 1, activation_type: 'silu' }),
    packedExperts(4, { k: 2, normalize_routing_weights: 1, activation_type: 'silu' }, { blocks: 2, points: true }),
    // The last block of the second weight's rows has 8 weights.
    packedExperts(
      4,
      { k: 2, normalize_routing_weights: 1, activation_type: 'silu' },
      { blocks: 2, points: true, neurons: 24 },
    ),
    // More weights than are unpacked at once.
    packedExperts(4, { k: 2, normalize_routing_weights: 1, activation_type: 'silu' }, { neurons: 24_576, tokens: 1 }),
  ],
  'com.microsoft.Attention': [
    packedAttention({}),
    packedAttention({ attributes: { unidirectional: 1, scale: { float: 0.9 } } }),
    packedAttention({ inputs: ['mask'], constants: { mask: int32([BATCH, ROWS], [1, 1, 0, 1, 1, 1]) } }),
    packedAttention({ inputs: ['mask'], constants: { mask: int32([BATCH], [2, 3]) } }),
    packedAttention({
      inputs: ['mask'],
      constants: { mask: int32([BATCH, ROWS, ROWS], [1, 0, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 1, 1]) },
      attributes: { unidirectional: 1 },
    }),
    packedAttention({ inputs: ['', '', 'bias'], floats: { bias: [1, 2, ROWS, ROWS] } }),
    packedAttention({
      inputs: ['', 'past'],
      constants: { past: { type: 'float', dims: [2, BATCH, 2, 0, 2], values: [] } },
      attributes: { unidirectional: 1 },
      outputs: ['y', 'present'],
    }),
  ],
  'com.microsoft.MultiHeadAttention': [
    multiHead({}),
    multiHead({ attributes: { unidirectional: 1, scale: { float: 0.8 } } }),
    multiHead({
      inputs: ['q', 'k', 'v', 'b'],
      floats: { q: [BATCH, ROWS, 4], k: [BATCH, 2, 4], v: [BATCH, 2, 6], b: [14] },
    }),
    multiHead({ inputs: ['q', 'k', 'v', '', 'mask'], constants: { mask: int32([BATCH, ROWS], [1, 1, 0, 1, 1, 1]) } }),
    multiHead({
      inputs: ['q', 'k', 'v', '', '', 'bias'],
      floats: { q: [BATCH, ROWS, 4], k: [BATCH, ROWS, 4], v: [BATCH, ROWS, 4], bias: [1, 2, ROWS, ROWS] },
    }),
    multiHead({
      inputs: ['q', 'k', 'v'],
      floats: { q: [BATCH, ROWS, 4], k: [BATCH, 2, 2, 2], v: [BATCH, 2, 2, 2] },
    }),
    multiHead({
      inputs: ['q', 'k', 'v', '', '', '', 'pastK', 'pastV'],
      constants: {
        pastK: { type: 'float', dims: [BATCH, 2, 0, 2], values: [] },
        pastV: { type: 'float', dims: [BATCH, 2, 0, 2], values: [] },
      },
      attributes: { unidirectional: 1 },
      outputs: ['y', 'presentK', 'presentV'],
    }),
  ],
  'com.microsoft.GroupQueryAttention': [
    groupQuery({}),
    groupQuery({ packed: true }),
    { ...groupQuery({ ...ROTATED, packed: true }), outputs: ['y', 'presentK', 'presentV'] },
    groupQuery(ROTATED),
    groupQuery({ ...ROTATED, packed: true, attributes: { do_rotary: 1, rotary_interleaved: 1 } }),
    groupQuery({ ...ROTATED, half: 8, headSize: 32 }),
    groupQuery({ ...ROTATED, packed: true, half: 8, headSize: 32 }),
    groupQuery({ attributes: { scale: { float: 0.7 }, softcap: { float: 0.5 } } }),
    ...[1, 2, 3].map((window) => groupQuery({ rows: 5, attributes: { local_window_size: window } })),
    groupQuery({ more: ['', '', '', 'bias'], floats: { bias: [1, 4, ROWS, ROWS] } }),
    groupQuery({ more: ['', '', '', '', 'sink'], floats: { sink: [4] } }),
    groupQuery({ attributes: { smooth_softmax: 1 } }),
    groupQuery({ attributes: { causal: 0 } }),
  ],
  Attention: [
    standardAttention({ q_num_heads: 4, kv_num_heads: 2, is_causal: 1 }),
    standardAttention({ q_num_heads: 4, kv_num_heads: 2, scale: { float: 0.6 } }),
    standardAttention(
      { softcap: { float: 0.5 } },
      {
        masked: true,
        inputs: {
          q: { dims: [1, 4, ROWS, 2] },
          k: { dims: [1, 2, ROWS, 2] },
          v: { dims: [1, 2, ROWS, 3] },
          mask: { dims: [ROWS, ROWS] },
        },
      },
    ),
    // A mask per head, without an axis of windows.
    standardAttention(
      {},
      {
        masked: true,
        inputs: {
          q: { dims: [1, 4, ROWS, 2] },
          k: { dims: [1, 2, ROWS, 2] },
          v: { dims: [1, 2, ROWS, 3] },
          mask: { dims: [4, ROWS, ROWS] },
        },
      },
    ),
    standardAttention(
      { q_num_heads: 4, kv_num_heads: 2 },
      { masked: true, constants: { mask: { type: 'bool', dims: [ROWS, ROWS], values: [1, 0, 1, 1, 1, 0, 0, 1, 1] } } },
    ),
  ],
  'com.microsoft.MatMulNBits': [
    nBits(4, 'none'),
    nBits(4, 'packed', true),
    nBits(4, 'float'),
    nBits(8, 'none'),
    nBits(8, 'packed'),
    nBits(2, 'none'),
  ],
};
