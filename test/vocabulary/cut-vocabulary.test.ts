import { create } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  OperatorSetIdProtoSchema,
} from 'onnx-buf';
import { UnsupportedModelError } from '../../src/errors.js';
import { createRandom } from '../../src/linalg/random.js';
import { type AttributeValue, makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { type DataTypeName, dataTypeNumber } from '../../src/onnx/data-types.js';
import { setWeight } from '../../src/onnx/edit-weights.js';
import type { OnnxModel, TensorHandle } from '../../src/onnx/onnx-model.js';
import { bytesHandle, expectedByteLength, floatsHandle, integersHandle } from '../../src/onnx/tensor-handle.js';
import type { Tensor } from '../../src/runtime/engine.js';
import { cutVocabulary, idsNamedByGraph } from '../../src/vocabulary/cut-vocabulary.js';
import { renumberIds } from '../../src/vocabulary/renumbered-ids.js';
import { traceVocabulary } from '../../src/vocabulary/trace-vocabulary.js';
import { testEngine } from '../support/engine.js';
import { bytesOf } from '../support/tiny-llama.js';

const [ROWS, HIDDEN] = [40, 32];
/** Remaining ids: a multiple of four, since kernels for codes sum the last columns differently. */
const KEEP = Int32Array.of(0, 2, 3, 7, 8, 11, 19, 20, 21, 30, 36, 39);
const IDS = [3, 39, 20];

const random = createRandom(3);
const floats = (...dims: number[]) =>
  floatsHandle(
    { dataType: 1, dims },
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() - 0.5),
  );
const codes = (type: DataTypeName, ...dims: number[]) => {
  const shape = { dataType: dataTypeNumber(type), dims };
  return bytesHandle(
    shape,
    Uint8Array.from({ length: expectedByteLength(shape) }, () => Math.floor(random() * 256)),
  );
};
const scalar = (value: number) => floatsHandle({ dataType: 1, dims: [] }, Float32Array.of(value));

type Nodes = readonly (readonly [
  op: string,
  inputs: readonly string[],
  output: string,
  attributes?: Record<string, AttributeValue>,
])[];

/** A graph from `input_ids` to `logits`, and the weights that it reads. */
interface Form {
  readonly nodes: Nodes;
  readonly weights: Readonly<Record<string, TensorHandle>>;
  readonly opset?: number;
  /** Ids in its constants. */
  readonly named?: readonly number[];
}

const MICROSOFT = new Set([
  'MatMulNBits',
  'MatMulBnb4',
  'GatherBlockQuantized',
  'FusedMatMul',
  'DynamicQuantizeMatMul',
]);

const nodesOf = (nodes: Nodes): NodeProto[] =>
  nodes.map(([op, inputs, output, attributes = {}]) =>
    makeNode({
      op,
      domain: MICROSOFT.has(op) ? 'com.microsoft' : '',
      name: output,
      inputs,
      outputs: output.split(' '),
      attributes,
    }),
  );

function modelOf({ nodes, weights, opset = 21 }: Form): OnnxModel {
  const graph = create(GraphProtoSchema, {
    name: 'g',
    node: nodesOf(nodes),
    input: [makeValueInfo('input_ids', 7, [1, 'length'])],
    output: [makeValueInfo('logits', 1, [1, 'length', ROWS])],
  });
  const opsetImport = [
    ['', opset],
    ['com.microsoft', 1],
  ].map(([domain, version]) => create(OperatorSetIdProtoSchema, { domain: String(domain), version: BigInt(version!) }));
  const model: OnnxModel = {
    proto: create(ModelProtoSchema, { irVersion: 10n, graph, opsetImport }),
    weights: new Map(),
  };
  for (const [name, handle] of Object.entries(weights)) setWeight(model, name, handle);
  return model;
}

const head: Nodes = [
  ['Transpose', ['table'], 'turned', { perm: [1, 0] }],
  ['MatMul', ['embedded', 'turned'], 'logits'],
];
const lookup: Nodes = [['Gather', ['table', 'input_ids'], 'embedded']];
const NBITS = { K: HIDDEN, N: ROWS, bits: 4, block_size: 16 };

const FORMS: Readonly<Record<string, Form>> = {
  'tied floats': { nodes: [...lookup, ...head], weights: { table: floats(ROWS, HIDDEN) } },
  'a bias and soft capping': {
    nodes: [
      ...lookup,
      ['MatMul', ['embedded', 'head'], 'plain'],
      ['Add', ['bias', 'plain'], 'biased'],
      ['Div', ['biased', 'cap'], 'small'],
      ['Tanh', ['small'], 'bent'],
      ['Mul', ['bent', 'cap'], 'logits'],
    ],
    weights: { table: floats(ROWS, HIDDEN), head: floats(HIDDEN, ROWS), bias: floats(ROWS), cap: scalar(30) },
  },
  'Gemm and a Reshape to the vocabulary size': {
    nodes: [
      ...lookup,
      ['Reshape', ['embedded', 'flat'], 'rows'],
      ['Gemm', ['rows', 'head', 'bias'], 'plain', { transB: 1 }],
      ['Shape', ['input_ids'], 'size'],
      ['Concat', ['size', 'count'], 'shape', { axis: 0 }],
      ['Reshape', ['plain', 'shape'], 'logits'],
    ],
    weights: {
      table: floats(ROWS, HIDDEN),
      head: floats(ROWS, HIDDEN),
      bias: floats(ROWS),
      flat: integersHandle([-1, HIDDEN]),
      count: integersHandle([ROWS]),
    },
  },
  'codes in blocks that lookup and LM head share': {
    nodes: [
      ['Reshape', ['codes', 'shape'], 'table'],
      [
        'GatherBlockQuantized',
        ['table', 'input_ids', 'scales', 'zeros'],
        'embedded',
        { bits: 4, block_size: 16, gather_axis: 0, quantize_axis: 1 },
      ],
      ['MatMulNBits', ['embedded', 'codes', 'scales', 'zeros'], 'logits', NBITS],
    ],
    weights: {
      codes: codes('uint8', ROWS, 2, 8),
      scales: floats(ROWS, 2),
      zeros: codes('uint8', ROWS, 1),
      shape: integersHandle([ROWS, 16]),
    },
  },
  'flat scales and a bias of MatMulNBits': {
    nodes: [...lookup, ['MatMulNBits', ['embedded', 'codes', 'scales', 'zeros', '', 'bias'], 'logits', NBITS]],
    weights: {
      table: floats(ROWS, HIDDEN),
      codes: codes('uint8', ROWS, 2, 8),
      scales: floats(ROWS * 2),
      zeros: codes('uint8', ROWS),
      bias: floats(ROWS),
    },
  },
  'levels of bitsandbytes': {
    nodes: [
      ...lookup,
      ['MatMulBnb4', ['embedded', 'codes', 'absmax'], 'logits', { K: HIDDEN, N: ROWS, block_size: 16, quant_type: 1 }],
    ],
    weights: { table: floats(ROWS, HIDDEN), codes: codes('uint8', (ROWS * HIDDEN) / 2), absmax: floats(ROWS * 2) },
  },
  'codes of DequantizeLinear, with a scale per row, two in a byte': {
    nodes: [
      ['DequantizeLinear', ['narrow', 'rowScales', 'rowZeros'], 'table', { axis: 0 }],
      ['Gather', ['table', 'input_ids'], 'embedded'],
      ['DequantizeLinear', ['wide', 'columnScales'], 'head', { axis: 1 }],
      ['MatMul', ['embedded', 'head'], 'logits'],
    ],
    weights: {
      narrow: codes('uint4', ROWS, HIDDEN - 1),
      rowScales: floats(ROWS),
      rowZeros: codes('uint4', ROWS),
      wide: codes('int4', HIDDEN - 1, ROWS),
      columnScales: floats(ROWS),
    },
  },
  'codes of DequantizeLinear in blocks': {
    nodes: [
      ...lookup,
      ['DequantizeLinear', ['wide', 'scales'], 'head', { axis: 0, block_size: 16 }],
      ['MatMul', ['embedded', 'head'], 'logits'],
    ],
    weights: { table: floats(ROWS, HIDDEN), wide: codes('int8', HIDDEN, ROWS), scales: floats(2, ROWS) },
  },
  'dynamically quantised activations': {
    nodes: [
      ['Gather', ['bytes', 'input_ids'], 'found'],
      ['DequantizeLinear', ['found', 'scale', 'zero'], 'embedded'],
      ['DynamicQuantizeLinear', ['embedded'], 'rounded step middle'],
      ['MatMulInteger', ['rounded', 'head', 'middle', 'zeros'], 'sums'],
      ['Mul', ['step', 'columnScales'], 'scales'],
      ['Cast', ['sums'], 'single', { to: 1 }],
      ['Mul', ['scales', 'single'], 'logits'],
    ],
    weights: {
      bytes: codes('uint8', ROWS, HIDDEN),
      scale: scalar(0.01),
      zero: bytesHandle({ dataType: 2, dims: [] }, Uint8Array.of(120)),
      head: codes('int8', HIDDEN, ROWS),
      zeros: bytesHandle({ dataType: 3, dims: [ROWS] }, new Uint8Array(ROWS)),
      columnScales: floats(ROWS),
    },
  },
  'a second table for lower ids, and a padding id': {
    nodes: [
      ...lookup,
      ['Less', ['input_ids', 'limit'], 'isInside'],
      ['Where', ['isInside', 'input_ids', 'padding'], 'inside'],
      ['Gather', ['second', 'inside'], 'more'],
      ['Equal', ['input_ids', 'stop'], 'isStop'],
      ['Cast', ['isStop'], 'asFloat', { to: 1 }],
      ['Unsqueeze', ['asFloat', 'lastAxis'], 'shift'],
      ['Add', ['embedded', 'more'], 'both'],
      ['Add', ['both', 'shift'], 'shifted'],
      ['MatMul', ['shifted', 'head'], 'logits'],
    ],
    weights: {
      table: floats(ROWS, HIDDEN),
      second: floats(30, HIDDEN),
      head: floats(HIDDEN, ROWS),
      limit: integersHandle([30]),
      padding: integersHandle([2]),
      stop: integersHandle([39]),
      lastAxis: integersHandle([-1]),
    },
    named: [30, 2, 39],
  },
};

async function logitsOf(
  model: OnnxModel,
  ids: readonly number[],
): Promise<{ readonly data: Float32Array; readonly dims: readonly number[] }> {
  const session = await testEngine.load(await bytesOf(model));
  const input: Tensor = { type: 'int64', dims: [1, ids.length], data: BigInt64Array.from(ids, BigInt) };
  const { logits } = await session.run({ input_ids: input }, ['logits']);
  const { data, dims } = logits!;
  await session.release();
  return { data: Float32Array.from(data as Float32Array), dims };
}

it.each(Object.keys(FORMS))('keeps the remaining logits bit for bit: %s', async (name) => {
  const form = FORMS[name]!;
  const before = await logitsOf(modelOf(form), IDS);
  const model = modelOf(form);
  const trace = await traceVocabulary(model, 'decoder');
  expect(trace.headRows).toBe(ROWS);
  expect(idsNamedByGraph(trace)).toEqual(form.named ?? []);
  cutVocabulary(model, trace, renumberIds(KEEP));
  const after = await logitsOf(
    model,
    IDS.map((id) => KEEP.indexOf(id)),
  );
  expect(after.dims).toEqual([1, IDS.length, KEEP.length]);
  const expected = Float32Array.from(
    { length: after.data.length },
    (_, at) => before.data[Math.floor(at / KEEP.length) * ROWS + KEEP[at % KEEP.length]!]!,
  );
  expect(after.data).toEqual(expected);
  const [logits] = model.proto.graph!.output;
  expect(String(Object(logits!.type!.value.value).shape.dim[2].value.value)).toBe(String(KEEP.length));
});

it('keeps one table for lookup and LM head if they share it', async () => {
  const model = modelOf(FORMS['codes in blocks that lookup and LM head share']!);
  const trace = await traceVocabulary(model, 'decoder');
  expect([...trace.tables.keys()].sort()).toEqual(['codes', 'scales', 'zeros']);
  cutVocabulary(model, trace, renumberIds(KEEP));
  expect(model.weights.get('codes')!.dims).toEqual([KEEP.length, 2, 8]);
});

it('cuts both branches of a merged decoder', async () => {
  const branch = (name: string, nodes: Nodes, output: string) =>
    create(AttributeProtoSchema, {
      name,
      type: AttributeProto_AttributeType.GRAPH,
      g: create(GraphProtoSchema, {
        name,
        node: nodesOf(nodes),
        output: [makeValueInfo(output, 1, [1, 'length', ROWS])],
      }),
    });
  const form = {
    nodes: lookup,
    weights: {
      table: floats(ROWS, HIDDEN),
      head: floats(HIDDEN, ROWS),
      is: bytesHandle({ dataType: 9, dims: [1] }, Uint8Array.of(1)),
    },
  };
  const merged = () => {
    const model = modelOf(form);
    const choice = makeNode({ op: 'If', inputs: ['is'], outputs: ['logits'] });
    choice.attribute = [
      branch('then_branch', [['MatMul', ['embedded', 'head'], 'then']], 'then'),
      branch(
        'else_branch',
        [
          ['Transpose', ['table'], 'turned', { perm: [1, 0] }],
          ['MatMul', ['embedded', 'turned'], 'else'],
        ],
        'else',
      ),
    ];
    model.proto.graph!.node.push(choice);
    return model;
  };
  const before = await logitsOf(merged(), IDS);
  const model = merged();
  cutVocabulary(model, await traceVocabulary(model, 'decoder'), renumberIds(KEEP));
  const after = await logitsOf(
    model,
    IDS.map((id) => KEEP.indexOf(id)),
  );
  expect(after.dims).toEqual([1, IDS.length, KEEP.length]);
  expect(after.data[1]).toBe(before.data[KEEP[1]!]);
});

it.each<[string, Nodes, RegExp]>([
  [
    'arithmetic with ids',
    [['Add', ['input_ids', 'one'], 'next'], ['Gather', ['table', 'next'], 'embedded'], ...head],
    /Add "next" uses token ids other than in lookups/,
  ],
  [
    'logits cut in two',
    [
      ...lookup,
      head[0]!,
      ['MatMul', ['embedded', 'turned'], 'plain'],
      ['Slice', ['plain', 'one', 'two', 'two'], 'logits'],
    ],
    /Slice "logits" has axes that are not supported/,
  ],
  [
    'a second reader of the table',
    [...lookup, ...head, ['ReduceSum', ['table'], 'sum']],
    /ReduceSum "sum" reads a table of token rows/,
  ],
  ['no LM head', [['Gather', ['table', 'input_ids'], 'logits']], /found no LM head before the output "logits"/],
])('refuses %s', async (_, nodes, message) => {
  const weights = { table: floats(ROWS, HIDDEN), one: integersHandle([1]), two: integersHandle([2]) };
  const error = await traceVocabulary(modelOf({ nodes, weights }), 'decoder').catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(UnsupportedModelError);
  expect(String(error)).toMatch(message);
});
