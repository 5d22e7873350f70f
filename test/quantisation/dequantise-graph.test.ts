import { create } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, type NodeProto } from 'onnx-buf';
import { ModelFormatError } from '../../src/errors.js';
import { createRandom } from '../../src/linalg/random.js';
import { type AttributeValue, makeInitializer, makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { encodeFloats, readFloat32 } from '../../src/onnx/float-encoding.js';
import type { OnnxModel, TensorHandle } from '../../src/onnx/onnx-model.js';
import { bytesHandle, floatsHandle } from '../../src/onnx/tensor-handle.js';
import { quantisedSource } from '../../src/quantisation/coded-handle.js';
import { dequantiseGraph } from '../../src/quantisation/dequantise-graph.js';
import type { Tensors } from '../../src/runtime/engine.js';
import { runGraph } from '../support/load-graph.js';

const [OUT, IN] = [4, 32];

const floats = (dims: readonly number[], values: ArrayLike<number>) =>
  floatsHandle({ dataType: 1, dims: [...dims] }, Float32Array.from(values));
const random = createRandom(5);
const bytes = (...dims: number[]) => {
  const count = dims.reduce((product, dim) => product * dim, 1);
  return bytesHandle(
    { dataType: 2, dims },
    Uint8Array.from({ length: count }, () => Math.floor(random() * 256)),
  );
};
const ones = (...dims: number[]) => floats(dims, new Array(dims.reduce((product, dim) => product * dim, 1)).fill(0.5));

const halves = (dims: readonly number[], values: readonly number[]) =>
  bytesHandle({ dataType: 10, dims: [...dims] }, encodeFloats(10, Float32Array.from(values)));

const order = (count: number, blockOf: (input: number) => number) =>
  bytesHandle(
    { dataType: 6, dims: [count] },
    new Uint8Array(Int32Array.from({ length: count }, (_, at) => blockOf(at)).buffer),
  );

function modelOf(nodes: readonly NodeProto[], weights: Readonly<Record<string, TensorHandle>>): OnnxModel {
  const graph = create(GraphProtoSchema, { node: [...nodes], output: [makeValueInfo('y', 1)] });
  return { proto: create(ModelProtoSchema, { graph }), weights: new Map(Object.entries(weights)) };
}

/** The output `y` of a model. */
async function resultOf({ proto, weights }: OnnxModel, inputs: Tensors): Promise<ArrayLike<number>> {
  const initializers = await Promise.all(
    [...weights].map(async ([name, { dataType, dims, read }]) =>
      makeInitializer(name, dataType, [...dims], await read()),
    ),
  );
  const { y } = await runGraph({ nodes: proto.graph!.node, initializers, inputs, outputs: ['y'] });
  return y!.data as Float32Array;
}

const product = (op: string, inputs: readonly string[], attributes: Record<string, AttributeValue>) =>
  makeNode({ op, domain: 'com.microsoft', inputs, outputs: ['y'], attributes: { N: OUT, K: IN, ...attributes } });
const x = { type: 'float32', dims: [1, IN], data: Float32Array.from({ length: IN }, (_, at) => Math.sin(at)) } as const;
/** Integers, which eight bits represent exactly. */
const whole = (least: number) =>
  ({
    type: 'float32',
    dims: [1, IN],
    data: Float32Array.from({ length: IN }, (_, at) => [least, 127, -3, 0, at][Math.min(at, 4)]!),
  }) as const;
const ids = { type: 'int64', dims: [2], data: BigInt64Array.of(2n, 0n) } as const;

const scales = floats([OUT, 2], [0.5, 0.1, 0.2, 0.3, 0.7, 0.9, 1, 0.4]);
const FORMS: readonly (readonly [string, OnnxModel, Tensors])[] = [
  ...[2, 4, 8].map(
    (bits) =>
      [
        `MatMulNBits of ${bits} bits`,
        modelOf([product('MatMulNBits', ['x', 'w', 's', 'z'], { bits, block_size: 16 })], {
          w: bytes(OUT, 2, (16 * bits) / 8),
          s: scales,
          z: bytes(OUT, Math.ceil((2 * bits) / 8)),
        }),
        { x },
      ] as const,
  ),
  [
    'MatMulNBits whose zero points are floats',
    modelOf([product('MatMulNBits', ['x', 'w', 's', 'z'], { bits: 4, block_size: 16 })], {
      w: bytes(OUT, 2, 8),
      s: scales,
      z: floats([OUT, 2], [1.5, 7.25, 8, 0, 3.5, 9, 15, 6.75]),
    }),
    { x },
  ],
  [
    'MatMulNBits with g_idx',
    modelOf([product('MatMulNBits', ['x', 'w', 's', '', 'g'], { bits: 4, block_size: 16 })], {
      w: bytes(OUT, 2, 8),
      s: scales,
      g: order(IN, (at) => (at * 3) % 2),
    }),
    { x },
  ],
  [
    'MatMulNBits whose scales are cast from float16',
    modelOf(
      [
        makeNode({ op: 'Cast', inputs: ['s'], outputs: ['scales'], attributes: { to: 1 } }),
        product('MatMulNBits', ['x', 'w', 'scales'], { bits: 4, block_size: 16 }),
      ],
      { w: bytes(OUT, 2, 8), s: halves([OUT, 2], [0.5, 0.1, 0.2, 0.3, 0.7, 0.9, 1, 0.4]) },
    ),
    { x },
  ],
  ...['fp4', 'nf4'].map(
    (levels, type) =>
      [
        `MatMulBnb4 of ${levels}`,
        modelOf([product('MatMulBnb4', ['x', 'w', 's'], { block_size: 16, quant_type: type })], {
          w: bytes((OUT * IN) / 2),
          s: { ...scales, dims: [OUT * 2] },
        }),
        { x },
      ] as const,
  ),
  [
    'MatMulInteger with one step for all activations',
    modelOf(
      [
        makeNode({ op: 'DynamicQuantizeLinear', inputs: ['x'], outputs: ['q', 'step', 'zero'] }),
        makeNode({ op: 'MatMulInteger', inputs: ['q', 'w', 'zero', 'z'], outputs: ['sums'] }),
        makeNode({ op: 'Cast', inputs: ['sums'], outputs: ['floats'], attributes: { to: 1 } }),
        makeNode({ op: 'Mul', inputs: ['step', 's'], outputs: ['scales'] }),
        makeNode({ op: 'Mul', inputs: ['floats', 'scales'], outputs: ['y'] }),
      ],
      { w: bytes(IN, OUT), s: floats([OUT], [0.5, 0.1, 0.2, 0.3]), z: bytes() },
    ),
    { x: whole(-128) },
  ],
  [
    'rows gathered before DequantizeLinear',
    modelOf(
      [
        makeNode({ op: 'Gather', inputs: ['w', 'ids'], outputs: ['rows'] }),
        makeNode({ op: 'DequantizeLinear', inputs: ['rows', 's', 'z'], outputs: ['y'] }),
      ],
      { w: bytes(OUT, IN), s: floats([], [0.25]), z: bytes() },
    ),
    { ids },
  ],
];

it.each(FORMS)('reads %s as floats, with the output of ONNX Runtime', async (_, coded, inputs) => {
  const model = dequantiseGraph(coded);
  expect(model.coded).toBe(coded);
  expect(model.proto.graph!.node.map(({ opType }) => opType)).toEqual([inputs.x === undefined ? 'Gather' : 'MatMul']);
  const [found, expected] = [await resultOf(model, inputs), await resultOf(coded, inputs)];
  for (let at = 0; at < expected.length; at += 1) expect(found[at]).toBeCloseTo(expected[at]!, 3);
});

it('keeps the accuracy level of products with a table that is gathered too', () => {
  const form = { bits: 8, block_size: 32 };
  const read = dequantiseGraph(
    modelOf(
      [
        makeNode({
          op: 'GatherBlockQuantized',
          domain: 'com.microsoft',
          inputs: ['w', 'ids', 's'],
          outputs: ['x'],
          attributes: { ...form, gather_axis: 0, quantize_axis: 1 },
        }),
        product('MatMulNBits', ['x', 'w', 's'], { ...form, accuracy_level: 4 }),
      ],
      { w: bytes(OUT, IN), s: ones(OUT, 1) },
    ),
  );
  expect([...read.weights.values()].map((handle) => quantisedSource(handle)?.codes)).toEqual([
    expect.objectContaining({ form: 'blocks', accuracyLevel: 4 }),
  ]);
});

it('does not change a float table that is gathered, cast and scaled next to codes', () => {
  const coded = modelOf(
    [
      makeNode({ op: 'Gather', inputs: ['table', 'ids'], outputs: ['halves'] }),
      makeNode({ op: 'Cast', inputs: ['halves'], outputs: ['floats'], attributes: { to: 1 } }),
      makeNode({ op: 'Mul', inputs: ['floats', 'root'], outputs: ['scaled'] }),
      makeNode({ op: 'DequantizeLinear', inputs: ['w', 's'], outputs: ['v'] }),
      makeNode({ op: 'MatMul', inputs: ['scaled', 'v'], outputs: ['y'] }),
    ],
    {
      table: floatsHandle({ dataType: 10, dims: [OUT, IN] }, new Float32Array(OUT * IN).fill(0.5)),
      root: floats([], [4]),
      w: bytes(IN, OUT),
      s: floats([], [0.25]),
    },
  );
  const read = dequantiseGraph(coded);
  expect(read.proto.graph!.node.map(({ opType }) => opType)).toEqual(['Gather', 'Cast', 'Mul', 'MatMul']);
  expect(read.weights.get('table')).toBe(coded.weights.get('table'));
});

const blocks = (given: Partial<Record<'w' | 's' | 'z' | 'g', TensorHandle>>, blockSize = 16) =>
  modelOf(
    [
      product('MatMulNBits', ['x', 'w', 's', given.z ? 'z' : '', given.g ? 'g' : ''], {
        bits: 4,
        block_size: blockSize,
      }),
    ],
    {
      w: bytes(OUT, 2, 8),
      s: scales,
      ...given,
    },
  );
const linear = (
  given: Partial<Record<'w' | 's' | 'z', TensorHandle>>,
  attributes: Record<string, AttributeValue> = {},
) =>
  modelOf(
    [
      makeNode({ op: 'DequantizeLinear', inputs: ['w', 's'], outputs: ['v'], attributes: { axis: 1, ...attributes } }),
      makeNode({ op: 'MatMul', inputs: ['x', 'v'], outputs: ['y'] }),
    ],
    { w: bytes(IN, OUT), s: ones(OUT), ...given },
  );
const changed = (place: number, value: number) =>
  floats(
    [OUT, 2],
    [0.5, 0.1, 0.2, 0.3, 0.7, 0.9, 1, 0.4].map((scale, at) => (at === place ? value : scale)),
  );

it.each([
  [
    'a scale that is NaN',
    blocks({ s: changed(3, Number.NaN) }),
    /^the scale of a block in row 1 of "\S+" of 4 rows is NaN/,
  ],
  [
    'a scale of 0',
    blocks({ s: changed(6, 0) }),
    /^the scale of a block in row 3 of "\S+" of 4 rows is 0; expected a finite/,
  ],
  [
    'a block size that does not divide, unpadded',
    blocks({ w: bytes(OUT, 1, 8) }),
    / has 32 codes, but 4 rows of 32 weights in blocks of 16 need 64/,
  ],
  ['a block size of no blocks', blocks({}, 0), / has a block size of 0; expected a power of two of at least 16/],
  ['too few scales', blocks({ s: ones(OUT, 1) }), / has 4 scales, but .* need 8/],
  [
    'a zero point that is infinite',
    blocks({ z: changed(5, Number.POSITIVE_INFINITY) }),
    /^the zero point of a block in row 2 of "\S+" of 4 rows is Infinity/,
  ],
  [
    'a g_idx out of range',
    blocks({ g: order(IN, (at) => at) }),
    /^input 2 of a weight has block index 2; expected 0 to 1/,
  ],
  ['a g_idx of too few inputs', blocks({ g: order(IN - 1, () => 0) }), / has 31 inputs, but .* need 32/],
  [
    'a linear scale that is infinite',
    linear({ s: floats([OUT], [1, 1, Number.POSITIVE_INFINITY, 1]) }),
    /^scale 2 of "\S+" of dims \[32,4\] is Infinity/,
  ],
  [
    'a linear scale of 0',
    linear({ s: floats([OUT], [1, 0, 1, 1]) }),
    /^scale 1 of "\S+" of dims \[32,4\] is 0; expected/,
  ],
  [
    'linear scales of another axis',
    linear({ s: ones(3) }),
    /^"w" of dims \[32,4\] has 3 scales, expected 4 along axis 1/,
  ],
  [
    'linear blocks that end before the axis does',
    linear({ s: ones(1, OUT) }, { axis: 0, block_size: 16 }),
    /has 4 scales, expected 8 along axis 0 in blocks of 16/,
  ],
])('refuses %s', async (_, coded, message) => {
  const readAll = async () => {
    for (const weight of dequantiseGraph(coded).weights.values()) await readFloat32(weight);
  };
  await expect(readAll()).rejects.toThrow(ModelFormatError);
  await expect(readAll()).rejects.toThrow(message);
});
