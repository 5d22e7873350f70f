import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  type AttributeProto,
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  FunctionProtoSchema,
  type GraphProto,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  SparseTensorProtoSchema,
  StringStringEntryProtoSchema,
  type TensorProto,
  TensorProto_DataLocation,
} from 'onnx-buf';
import type { Random } from '../../src/linalg/random.js';
import { makeInitializer, makeInt64Initializer, makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { drawIndex, drawOne, type Mutant } from './mutate-bytes.js';
import { NASTY_FLOATS, NASTY_INTEGERS, NASTY_NAMES } from './nasty.js';

/** A model that is changed in place. */
interface Subject {
  readonly proto: ModelProto;
  readonly graph: GraphProto;
}

type ModelMutation = (subject: Subject, random: Random) => void;

const drawName = (random: Random, { node, initializer, input }: GraphProto): string =>
  random() < 0.4
    ? drawOne(random, NASTY_NAMES)
    : drawOne(random, [...node.flatMap(({ output }) => output), ...[...initializer, ...input].map(({ name }) => name)]);

const drawNode = (random: Random, { node }: GraphProto): NodeProto => drawOne(random, node);

/** An attribute of some node, or a new one if there is none. */
function drawAttribute(random: Random, graph: GraphProto): AttributeProto {
  const all = graph.node.flatMap(({ attribute }) => attribute);
  if (all.length > 0) return drawOne(random, all);
  const made = create(AttributeProtoSchema, { name: 'axis', type: AttributeProto_AttributeType.INT });
  drawNode(random, graph).attribute.push(made);
  return made;
}

/** Integers such as shapes and axes, the rest floats. */
const isInts = ({ dataType }: TensorProto): boolean => dataType === 7 || dataType === 6;

function drawTensor(random: Random, graph: GraphProto, fits: (tensor: TensorProto) => boolean = () => true) {
  const constants = graph.node.flatMap(({ attribute }) => attribute.flatMap(({ t }) => (t === undefined ? [] : [t])));
  const found = [...graph.initializer, ...constants].filter(fits);
  return found.length === 0 ? undefined : drawOne(random, found);
}

/** Adds a node after an input, whose result is read by a node of the model. */
function insertNode(random: Random, graph: GraphProto, make: (value: string, output: string) => readonly NodeProto[]) {
  const reader = drawNode(random, graph);
  if (reader.input.length === 0) return;
  const slot = drawIndex(random, reader.input.length);
  const output = `inserted/${graph.node.length}`;
  const made = make(reader.input[slot]!, output);
  reader.input[slot] = output;
  graph.node.splice(graph.node.indexOf(reader), 0, ...made);
}

/** Adds values whose size is defined by a constant; half of them are read by a node of the model. */
function grow(random: Random, graph: GraphProto): void {
  const sizes = Array.from({ length: 1 + drawIndex(random, 3) }, () => drawOne(random, NASTY_INTEGERS));
  const at = `grown/${graph.initializer.length}`;
  const put = (name: string, values: readonly bigint[], dims = [values.length]): string => {
    graph.initializer.push(
      makeInitializer(`${at}/${name}`, 7, dims, new Uint8Array(BigInt64Array.from(values).buffer)),
    );
    return `${at}/${name}`;
  };
  const [shape, zero, one] = [put('sizes', sizes), put('zero', [0n], []), put('one', [1n], [])];
  const scalar = put('scalar', [sizes[0]!], []);
  const [op, inputs] = drawOne<readonly [string, readonly string[]]>(random, [
    ['ConstantOfShape', [shape]],
    ['Expand', [one, shape]],
    ['Range', [zero, scalar, one]],
    [
      'Tile',
      [
        put(
          'ones',
          sizes.map(() => 1n),
        ),
        shape,
      ],
    ],
    ['Pad', [put('row', [1n]), put('pads', [0n, sizes[0]!])]],
  ]);
  const make = (output: string) => makeNode({ op, inputs, outputs: [output] });
  if (random() < 0.5) graph.node.push(make(`${at}/unread`));
  else insertNode(random, graph, (_, output) => [make(output)]);
}

/** A loop of 2^62 iterations. */
function loop(random: Random, graph: GraphProto): void {
  const rounds = `rounds/${graph.initializer.length}`;
  graph.initializer.push(
    makeInitializer(rounds, 7, [], new Uint8Array(BigInt64Array.of(2n ** 62n).buffer)),
    makeInitializer(`${rounds}/go`, 9, [], Uint8Array.of(1)),
  );
  const body = create(GraphProtoSchema, {
    name: 'body',
    node: [
      makeNode({ op: 'Identity', inputs: ['going'], outputs: ['still'] }),
      makeNode({ op: 'Identity', inputs: ['carried'], outputs: ['kept'] }),
    ],
    input: [makeValueInfo('round', 7, []), makeValueInfo('going', 9, []), makeValueInfo('carried', 1)],
    output: [makeValueInfo('still', 9, []), makeValueInfo('kept', 1)],
  });
  insertNode(random, graph, (value, output) => [
    Object.assign(makeNode({ op: 'Loop', inputs: [rounds, `${rounds}/go`, value], outputs: [output] }), {
      attribute: [create(AttributeProtoSchema, { name: 'body', type: AttributeProto_AttributeType.GRAPH, g: body })],
    }),
  ]);
}

/** Nested branches. */
function nest(random: Random, graph: GraphProto): void {
  const leaf = create(GraphProtoSchema, {
    name: 'leaf',
    node: [makeNode({ op: 'Constant', inputs: [], outputs: ['leaf'], attributes: { value_ints: [1] } })],
    output: [makeValueInfo('leaf', 7, [1])],
  });
  let inner = leaf;
  for (let depth = drawOne(random, [2, 20, 32, 40, 300]); depth > 0; depth--) {
    const choice = makeNode({ op: 'If', inputs: ['chosen'], outputs: [`level/${depth}`] });
    choice.attribute = [inner, leaf].map((g, at) =>
      create(AttributeProtoSchema, {
        name: at === 0 ? 'then_branch' : 'else_branch',
        type: AttributeProto_AttributeType.GRAPH,
        g,
      }),
    );
    inner = create(GraphProtoSchema, {
      name: `level/${depth}`,
      node: [choice],
      output: [makeValueInfo(`level/${depth}`, 7, [1])],
    });
  }
  graph.initializer.push(makeInitializer('chosen', 9, [], Uint8Array.of(1)));
  graph.node.push(...inner.node);
}

const MUTATIONS: Readonly<Record<string, ModelMutation>> = {
  operator({ graph }, random) {
    const others = [...NASTY_NAMES, 'Foo', 'Loop', 'If', 'Scan', ...graph.node.map(({ opType }) => opType)];
    drawNode(random, graph).opType = drawOne(random, others);
  },
  domain({ graph }, random) {
    drawNode(random, graph).domain = drawOne(random, [...NASTY_NAMES, 'ai.onnx', 'com.microsoft', 'ai.onnx.ml']);
  },
  nodeName({ graph }, random) {
    drawNode(random, graph).name = drawName(random, graph);
  },
  attributeName({ graph }, random) {
    drawAttribute(random, graph).name = drawOne(random, [...NASTY_NAMES, 'axis', 'perm', 'to', 'num_heads']);
  },
  attributeValue({ graph }, random) {
    const attribute = drawAttribute(random, graph);
    attribute.i = drawOne(random, NASTY_INTEGERS);
    attribute.f = drawOne(random, NASTY_FLOATS);
    attribute.s = new TextEncoder().encode(drawOne(random, NASTY_NAMES)) as Uint8Array<ArrayBuffer>;
    attribute.ints = attribute.ints.map((value) => (random() < 0.5 ? value : drawOne(random, NASTY_INTEGERS)));
  },
  attributeType({ graph }, random) {
    drawAttribute(random, graph).type = drawIndex(random, 16) as AttributeProto_AttributeType;
  },
  attributeGone({ graph }, random) {
    drawNode(random, graph).attribute.splice(0, 1);
  },
  headCount({ graph }, random) {
    const heads = graph.node.flatMap(({ attribute }) => attribute.filter(({ name }) => /heads|dim|size/.test(name)));
    if (heads.length > 0) drawOne(random, heads).i = drawOne(random, NASTY_INTEGERS);
  },
  input({ graph }, random) {
    const { input } = drawNode(random, graph);
    input[drawIndex(random, input.length + 1)] = drawName(random, graph);
  },
  inputGone({ graph }, random) {
    const { input } = drawNode(random, graph);
    input.splice(drawIndex(random, input.length), 1);
  },
  output({ graph }, random) {
    const { output } = drawNode(random, graph);
    output[drawIndex(random, output.length + 1)] = drawName(random, graph);
  },
  cycle({ graph }, random) {
    const first = drawNode(random, graph);
    const later = graph.node.slice(graph.node.indexOf(first)).flatMap(({ output }) => output);
    first.input[drawIndex(random, first.input.length)] = drawOne(random, later);
  },
  rename({ proto, graph }, random) {
    const from = drawName(random, graph);
    const to = drawOne(random, NASTY_NAMES);
    const swap = (name: string) => (name === from ? to : name);
    for (const node of graph.node) {
      node.input = node.input.map(swap);
      node.output = node.output.map(swap);
    }
    for (const one of [...graph.initializer, ...graph.input, ...graph.output]) one.name = swap(one.name);
    proto.producerName = to;
  },
  nodeGone({ graph }, random) {
    graph.node.splice(drawIndex(random, graph.node.length), 1 + drawIndex(random, 3));
  },
  nodeTwice({ graph }, random) {
    graph.node.push(drawNode(random, graph));
  },
  order({ graph }) {
    graph.node.reverse();
  },
  dims({ graph }, random) {
    const { dims = [] } = drawTensor(random, graph) ?? {};
    if (random() < 0.3) dims.splice(drawIndex(random, dims.length), 1);
    else dims[drawIndex(random, dims.length + (random() < 0.2 ? 1 : 0))] = drawOne(random, NASTY_INTEGERS);
  },
  swapDims({ graph }, random) {
    drawTensor(random, graph, ({ dims }) => dims.length > 1)?.dims.reverse();
  },
  /** A valid tensor with another shape than its readers expect, such as a cosine table of the wrong width. */
  regroup({ graph }, random) {
    const tensor = drawTensor(random, graph, ({ dims }) => dims.length > 1);
    if (tensor === undefined) return;
    const factor = drawOne(random, [2n, 4n, 8n, 3n]);
    const [rows = 1n, columns = 1n] = tensor.dims;
    if (random() < 0.5 && columns % factor === 0n) tensor.dims = [rows * factor, columns / factor];
    else if (rows % factor === 0n) tensor.dims = [rows / factor, columns * factor];
    else tensor.dims = [rows * columns];
  },
  shorten({ graph }, random) {
    const tensor = drawTensor(random, graph, ({ rawData, dims }) => rawData.length > 0 && dims.length > 0);
    if (tensor === undefined || tensor.dims[0]! < 2n) return;
    const rowBytes = tensor.rawData.length / Number(tensor.dims[0]);
    const rows = drawOne(random, [0, 1, Number(tensor.dims[0]) - 1]);
    tensor.rawData = tensor.rawData.slice(0, rows * rowBytes);
    tensor.dims[0] = BigInt(rows);
  },
  dataType({ graph }, random) {
    const tensor = drawTensor(random, graph);
    if (tensor !== undefined)
      tensor.dataType = drawOne(random, [0, 1, 7, 8, 10, 16, 22, 99, -1, drawIndex(random, 30)]);
  },
  payload({ graph }, random) {
    const tensor = drawTensor(random, graph);
    if (tensor !== undefined) tensor.rawData = tensor.rawData.slice(0, drawIndex(random, tensor.rawData.length + 1));
  },
  integers({ graph }, random) {
    const tensor = drawTensor(random, graph, (found) => isInts(found) && found.rawData.length >= 8);
    if (tensor === undefined) return;
    const bytes = tensor.rawData.slice();
    const at = 8 * drawIndex(random, Math.floor(bytes.length / 8));
    new DataView(bytes.buffer).setBigInt64(at, drawOne(random, NASTY_INTEGERS), true);
    tensor.rawData = bytes;
  },
  floats({ graph }, random) {
    const tensor = drawTensor(random, graph, ({ dataType, rawData }) => dataType === 1 && rawData.length >= 4);
    if (tensor === undefined) return;
    const view = new DataView(tensor.rawData.slice().buffer);
    const value = drawOne(random, NASTY_FLOATS);
    for (let at = 0; at + 4 <= view.byteLength; at += 4)
      if (random() < 0.01 || at === 0) view.setFloat32(at, value, true);
    tensor.rawData = new Uint8Array(view.buffer);
  },
  external({ graph }, random) {
    const tensor = drawTensor(random, graph);
    if (tensor === undefined) return;
    tensor.dataLocation = TensorProto_DataLocation.EXTERNAL;
    const places = ['/dev/zero', '../model.onnx', 'config.json', 'model.onnx', '.', 'fifo', ...NASTY_NAMES];
    const counts = [...NASTY_INTEGERS.map(String), '1e3', 'x', '9'.repeat(400)];
    tensor.externalData = [
      ['location', drawOne(random, places)],
      ['offset', drawOne(random, counts)],
      ['length', drawOne(random, counts)],
    ].map(([key, value]) => create(StringStringEntryProtoSchema, { key: key!, value: value! }));
  },
  externalRange({ graph }, random) {
    const outside = graph.initializer.filter(({ externalData }) => externalData.length > 0);
    if (outside.length === 0) return;
    drawOne(random, drawOne(random, outside).externalData).value = String(drawOne(random, NASTY_INTEGERS));
  },
  tensorName({ graph }, random) {
    if (graph.initializer.length > 0) drawOne(random, graph.initializer).name = drawName(random, graph);
  },
  border({ graph }, random) {
    const values = random() < 0.5 ? graph.input : graph.output;
    if (values.length === 0) return;
    const info = drawOne(random, values);
    const made = drawOne(random, [
      () => makeValueInfo(drawName(random, graph), 7, ['batch', 'sequence']),
      () => makeValueInfo(info.name, drawIndex(random, 17), []),
      () => makeValueInfo(info.name, 1, [drawOne(random, [0, -1, 2 ** 31, 2 ** 50]), 'n', 8]),
      () => makeValueInfo(info.name, 1),
    ])();
    values[values.indexOf(info)] = made;
  },
  borderDim({ graph }, random) {
    const shaped = [...graph.input, ...graph.output].flatMap(({ type }) =>
      type?.value.case === 'tensorType' ? (type.value.value.shape?.dim ?? []) : [],
    );
    if (shaped.length > 0) drawOne(random, shaped).value = { case: 'dimValue', value: drawOne(random, NASTY_INTEGERS) };
  },
  borderGone({ graph }, random) {
    const values = random() < 0.5 ? graph.input : graph.output;
    values.splice(drawIndex(random, values.length), 1);
  },
  opset({ proto }, random) {
    if (proto.opsetImport.length > 0)
      drawOne(random, proto.opsetImport).version = drawOne(random, [...NASTY_INTEGERS, 13n, 21n, 99n]);
  },
  opsetGone({ proto }, random) {
    proto.opsetImport.splice(drawIndex(random, proto.opsetImport.length), 1);
  },
  irVersion({ proto }, random) {
    proto.irVersion = drawOne(random, NASTY_INTEGERS);
  },
  functions({ proto, graph }, random) {
    const node = drawNode(random, graph);
    const { opType: name, domain } = node;
    proto.functions.push(
      create(FunctionProtoSchema, {
        name,
        domain,
        input: node.input.map((_, at) => `in${at}`),
        output: node.output.map((_, at) => `out${at}`),
        node: [makeNode({ op: name, domain, inputs: node.input.map((_, at) => `in${at}`), outputs: ['out0'] })],
        opsetImport: proto.opsetImport,
      }),
    );
  },
  sparse({ graph }, random) {
    const name = drawName(random, graph);
    graph.sparseInitializer.push(
      create(SparseTensorProtoSchema, {
        values: makeInitializer(name, 1, [2], new Uint8Array(8)),
        indices: makeInt64Initializer('', [0, 2 ** 40]),
        dims: [drawOne(random, NASTY_INTEGERS), drawOne(random, NASTY_INTEGERS)],
      }),
    );
  },
  valueInfo({ graph }, random) {
    graph.valueInfo.push(makeValueInfo(drawName(random, graph), 1, [drawOne(random, [0, -1, 7, 2 ** 40])]));
  },
  grow: ({ graph }, random) => grow(random, graph),
  loop: ({ graph }, random) => loop(random, graph),
  nest: ({ graph }, random) => nest(random, graph),
};

/** Changes a model in one to three places, each by a row of a table. The graph must have nodes. */
export function mutateModel(bytes: Uint8Array, random: Random): Mutant<Uint8Array> {
  // A Buffer's slices are views of it, and payloads are cut out to be changed.
  const proto = fromBinary(ModelProtoSchema, new Uint8Array(bytes));
  const names: string[] = [];
  for (let left = 1 + drawIndex(random, 3); left > 0; left--) {
    const name = drawOne(random, Object.keys(MUTATIONS));
    if (proto.graph!.node.length > 0) MUTATIONS[name]!({ proto, graph: proto.graph! }, random);
    names.push(name);
  }
  return { value: toBinary(ModelProtoSchema, proto), what: names.join(', ') };
}
