import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType as AttributeType,
  FunctionProtoSchema,
  ModelProtoSchema,
  type NodeProtoSchema,
  type TensorProtoSchema,
} from 'onnx-buf';
import { ModelFormatError } from '../../src/errors.js';
import type { ByteSource } from '../../src/onnx/byte-source.js';
import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import {
  constantNode,
  encode,
  externalIn,
  floatTensor,
  loadBytes,
  rawFloats,
  seededRandom,
  smallModel,
} from './small-model.js';

type TensorInit = MessageInitShape<typeof TensorProtoSchema>;
type NodeInit = MessageInitShape<typeof NodeProtoSchema>;

const bytesOf = (array: { readonly buffer: ArrayBuffer }) => [...new Uint8Array(array.buffer)];
const ramp = (length: number) => Float32Array.from({ length }, (_, i) => i / 8 - 3);

async function loadTensor(tensor: TensorInit, files: Readonly<Record<string, Uint8Array>> = {}) {
  const model = await loadBytes(encode(smallModel({ initializer: [{ name: 't', ...tensor }] })), files);
  return {
    model,
    handle: model.weights.get('t')!,
    entry: model.proto.graph!.initializer.find(({ name }) => name === 't')!,
  };
}

describe('every form of storage', () => {
  const forms: readonly (readonly [string, TensorInit, number[]])[] = [
    ['float raw', { dataType: 1, dims: [2n], rawData: rawFloats([1, 2]) }, bytesOf(Float32Array.of(1, 2))],
    ['float list', { dataType: 1, dims: [2n], floatData: [1.5, -2] }, bytesOf(Float32Array.of(1.5, -2))],
    ['complex64 list', { dataType: 14, dims: [1n], floatData: [1, 2] }, bytesOf(Float32Array.of(1, 2))],
    ['uint8 list', { dataType: 2, dims: [2n], int32Data: [0, 255] }, [0, 255]],
    ['int8 list', { dataType: 3, dims: [2n], int32Data: [-1, 127] }, [255, 127]],
    ['uint16 list', { dataType: 4, dims: [1n], int32Data: [65535] }, [255, 255]],
    ['int16 list', { dataType: 5, dims: [1n], int32Data: [-2] }, [254, 255]],
    ['int32 list', { dataType: 6, dims: [1n], int32Data: [-2] }, [254, 255, 255, 255]],
    ['int64 list', { dataType: 7, dims: [2n], int64Data: [-1n, 5n] }, bytesOf(BigInt64Array.of(-1n, 5n))],
    ['bool list', { dataType: 9, dims: [2n], int32Data: [1, 0] }, [1, 0]],
    ['float16 list', { dataType: 10, dims: [2n], int32Data: [0x3c00, 0xfbff] }, [0, 0x3c, 0xff, 0xfb]],
    ['double list', { dataType: 11, dims: [1n], doubleData: [0.1] }, bytesOf(Float64Array.of(0.1))],
    ['uint32 list', { dataType: 12, dims: [1n], uint64Data: [0xfffffffen] }, [254, 255, 255, 255]],
    ['uint64 list', { dataType: 13, dims: [1n], uint64Data: [2n ** 64n - 1n] }, Array(8).fill(255)],
    ['complex128 list', { dataType: 15, dims: [1n], doubleData: [1, 2] }, bytesOf(Float64Array.of(1, 2))],
    ['bfloat16 list', { dataType: 16, dims: [1n], int32Data: [0x3f80] }, [0x80, 0x3f]],
    ['int4 list', { dataType: 22, dims: [3n], int32Data: [0x21, 0x03] }, [0x21, 0x03]],
    ['uint2 raw', { dataType: 25, dims: [5n], rawData: Uint8Array.of(0xe4, 1) }, [0xe4, 1]],
    ['no elements', { dataType: 1, dims: [0n, 3n] }, []],
    ['a scalar', { dataType: 7, dims: [], int64Data: [3n] }, bytesOf(BigInt64Array.of(3n))],
    [
      'external',
      { dataType: 1, dims: [2n], ...externalIn({ location: './a/w.bin', offset: '4', length: '8' }) },
      bytesOf(Float32Array.of(2, 3)),
    ],
    [
      'external, no offset',
      { dataType: 1, dims: [1n], ...externalIn({ location: 'a/w.bin' }) },
      bytesOf(Float32Array.of(1)),
    ],
  ];

  it.each(forms)('reads %s', async (_, tensor, expected) => {
    const { handle, entry } = await loadTensor(tensor, { 'a/w.bin': rawFloats([1, 2, 3]) });
    expect([...(await handle.read())]).toEqual(expected);
    expect(handle.byteLength).toBe(expected.length);
    expect(handle.dims).toEqual((tensor.dims ?? []).map(Number));
    expect(entry.dims).toEqual(tensor.dims);
    expect(entry).toMatchObject({
      rawData: new Uint8Array(0),
      externalData: [],
      dataLocation: 0,
      floatData: [],
      int32Data: [],
    });
  });

  it('reads large payloads from lists and raw data, whole or in part', async () => {
    const values = ramp(5000);
    for (const payload of [{ rawData: rawFloats(values) }, { floatData: [...values] }]) {
      const { handle } = await loadTensor({ dataType: 1, dims: [5000n], ...payload });
      expect([...new Float32Array((await handle.read()).buffer)]).toEqual([...values]);
      const part = await handle.read({ offset: 400, length: 8 });
      expect([...new Float32Array(part.buffer)]).toEqual([values[100], values[101]]);
    }
  });

  it('keeps strings in the protobuf', async () => {
    const stringData = [Uint8Array.of(1), Uint8Array.of(2)];
    const { handle, entry } = await loadTensor({ dataType: 8, dims: [2n], stringData });
    expect(handle).toBeUndefined();
    expect(entry.stringData).toEqual(stringData);
  });

  it('reports how the weights were stored', async () => {
    const external = { dataType: 1, dims: [2n], ...externalIn({ location: 'w.bin' }) };
    const { model } = await loadTensor(external, { 'w.bin': rawFloats([1, 2]) });
    expect(model.storage).toEqual({ kind: 'external', files: ['w.bin'], thresholdBytes: 8 });
    expect((await loadBytes(encode(smallModel()))).storage).toEqual({ kind: 'inline' });
  });

  it('does not read large payloads', async () => {
    const bytes = encode(smallModel({ initializer: [floatTensor('big', [300_000], ramp(300_000))] }));
    const source = bytesSource('model.onnx', bytes);
    let read = 0;
    const counting: ByteSource = {
      ...source,
      async read(offset, length) {
        read += length;
        return source.read(offset, length);
      },
    };
    await loadModel(counting, createMemoryFolder('empty'));
    expect(read).toBeLessThan(bytes.byteLength / 4);
  });
});

describe('Constant nodes', () => {
  it('hoists large and external ones, and keeps the others', async () => {
    const node = [
      constantNode('large', floatTensor('', [256], ramp(256))),
      constantNode('small', floatTensor('', [255], ramp(255))),
      constantNode('outside', { dataType: 1, dims: [1n], ...externalIn({ location: 'w.bin' }) }),
    ];
    const model = await loadBytes(encode(smallModel({ node, irVersion: 3n })), { 'w.bin': rawFloats([7]) });
    expect(model.proto.irVersion).toBe(4n);
    expect(model.proto.graph!.node.map(({ output }) => output[0])).toEqual(['y', 'small']);
    expect([...model.weights.keys()]).toEqual(['w', 'large', 'outside']);
    expect(new Float32Array((await model.weights.get('outside')!.read()).buffer)).toEqual(Float32Array.of(7));
  });

  it('reads external tensors of subgraphs and functions into the protobuf', async () => {
    const inner = constantNode('c', { name: 'c', dataType: 1, dims: [1n], ...externalIn({ location: 'w.bin' }) });
    const g = {
      name: 'g',
      node: [inner],
      initializer: [{ name: 'i', dataType: 1, dims: [1n], ...externalIn({ location: 'w.bin' }) }],
    };
    const proto = smallModel({
      node: [{ opType: 'If', output: ['z'], attribute: [{ name: 'then_branch', type: AttributeType.GRAPH, g }] }],
    });
    proto.functions = [create(FunctionProtoSchema, { name: 'f', node: [inner] })];
    const model = await loadBytes(encode(proto), { 'w.bin': rawFloats([7]) });
    const subgraph = model.proto.graph!.node[1]!.attribute[0]!.g!;
    for (const tensor of [
      subgraph.initializer[0]!,
      subgraph.node[0]!.attribute[0]!.t!,
      model.proto.functions[0]!.node[0]!.attribute[0]!.t!,
    ]) {
      expect(tensor).toMatchObject({ rawData: rawFloats([7]), dataLocation: 0, externalData: [] });
    }
  });
});

describe('inconsistent files', () => {
  const outside = (entries: Readonly<Record<string, string>>): TensorInit => ({
    dataType: 1,
    dims: [2n],
    ...externalIn(entries),
  });

  it.each<readonly [string, TensorInit, RegExp]>([
    ['too few bytes', { dataType: 1, dims: [3n], rawData: rawFloats([1, 2]) }, /"t" is float\[3\], 12 bytes, but 8/],
    ['too many bytes', { dataType: 1, dims: [1n], rawData: rawFloats([1, 2]) }, /"t".*4 bytes, but 8/],
    [
      'too few bytes of a large tensor',
      { dataType: 1, dims: [3000n], rawData: rawFloats(ramp(2999)) },
      /"t".*12000 bytes, but 11996/,
    ],
    ['no elements at all', { dataType: 1, dims: [3n] }, /"t".*12 bytes, but 0/],
    ['a list for another type', { dataType: 1, dims: [1n], int64Data: [1n] }, /"t".*4 bytes, but 0/],
    ['two payloads', { dataType: 1, dims: [1n], floatData: [1], rawData: rawFloats([1]) }, /"t"/],
    [
      'a large list for another type',
      { dataType: 10, dims: [5000n], floatData: [...ramp(5000)] },
      /"t" is stored in a list for another/,
    ],
    ['a negative dimension', { dataType: 1, dims: [-1n], rawData: rawFloats([1]) }, /"t".*\[-1\] is not a valid shape/],
    ['an absurd shape', { dataType: 1, dims: [2n ** 40n, 2n ** 40n] }, /"t".*not a valid shape/],
    ['an unknown type', { dataType: 99, dims: [1n] }, /"t".*Data type 99/],
    ['external strings', { dataType: 8, dims: [2n], ...externalIn({ location: 'w.bin' }) }, /"t".*Data type 8/],
    ['a missing file', outside({ location: 'gone.bin' }), /"t".*"gone.bin".*no such file/],
    ['a range past the end', outside({ location: 'w.bin', offset: '5' }), /"t".*"w.bin".*bytes 5 to 13 exceed its 12/],
    ['an absurd offset', outside({ location: 'w.bin', offset: '9'.repeat(30) }), /"t".*offset/],
    ['a negative offset', outside({ location: 'w.bin', offset: '-4' }), /"t".*offset "-4"/],
    ['another length', outside({ location: 'w.bin', length: '4' }), /"t".*length "4" is not the 8 bytes/],
    ...[
      '',
      '../w.bin',
      'a/../../w.bin',
      'a/../w.bin',
      '/w.bin',
      'C:\\w.bin',
      'c:w.bin',
      '\\\\host\\w',
      'a\\..\\..\\w',
      'w\0',
      '.',
    ].map(
      (location) => [`location ${JSON.stringify(location)}`, outside({ location }), /"t".*not a path inside/] as const,
    ),
  ])('refuses %s', async (_, tensor, message) => {
    const loading = loadTensor(tensor, { 'w.bin': rawFloats([1, 2, 3]) });
    await expect(loading).rejects.toThrow(ModelFormatError);
    await expect(loading).rejects.toThrow(message);
  });

  it('refuses duplicate or missing names', async () => {
    await expect(loadTensor({ name: 'w', dataType: 1, dims: [0n] })).rejects.toThrow(/two tensors are called "w"/);
    await expect(loadTensor({ name: '', dataType: 1, dims: [0n] })).rejects.toThrow(/no name/);
  });

  it.each([
    ['nothing', new Uint8Array(0)],
    ['text', new TextEncoder().encode('<!doctype html><html></html>')],
    ['a git pointer', new TextEncoder().encode('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n')],
    ['zeros', new Uint8Array(64)],
    ['a field that claims 2^60 bytes', Uint8Array.of(0x3a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10)],
    ['a varint without end', new Uint8Array(40).fill(0xff)],
  ])('refuses %s as a model', async (_, bytes) => {
    await expect(loadBytes(bytes)).rejects.toThrow(ModelFormatError);
  });

  it('refuses a nested length that exceeds its parent', async () => {
    const bytes = encode(smallModel());
    const name = bytes.findIndex((_, at) => new TextDecoder().decode(bytes.subarray(at, at + 3)) === 'Add');
    bytes[name - 1] = 100;
    await expect(loadBytes(bytes)).rejects.toThrow(ModelFormatError);
  });
});

describe('damaged files', () => {
  const model = smallModel({
    initializer: [
      floatTensor('big', [1200], ramp(1200)),
      { name: 'list', dataType: 7, dims: [2n], int64Data: [1n, -1n] },
    ],
    node: [constantNode('c', floatTensor('', [300], ramp(300)))],
  });
  const { opsetImport } = model;
  model.opsetImport = [];
  // The import goes last, so that no shorter file is an entire model.
  const whole = Uint8Array.of(
    ...encode(model),
    ...toBinary(ModelProtoSchema, create(ModelProtoSchema, { opsetImport })),
  );

  it('truncated anywhere give a ModelFormatError', async () => {
    expect((await loadBytes(whole)).weights.size).toBe(4);
    for (let length = 0; length < whole.byteLength; length++) {
      const failure = await loadBytes(whole.subarray(0, length)).catch((error: unknown) => error);
      if (!(failure instanceof ModelFormatError)) throw new Error(`${length} bytes gave ${failure}`);
    }
  });

  it('with flipped bits load, or give a ModelFormatError', async () => {
    const random = seededRandom(1);
    const other = await Promise.all(
      Array.from({ length: 1500 }, async () => {
        const bytes = whole.slice();
        for (let flip = 0; flip < 3; flip++)
          bytes[Math.floor(random() ** 3 * bytes.length)]! ^= 1 << Math.floor(random() * 8);
        return loadBytes(bytes).then(
          () => [],
          (error: unknown) => (error instanceof ModelFormatError ? [] : [error]),
        );
      }),
    );
    expect(other.flat()).toEqual([]);
  });
});

describe('nodes', () => {
  const add = (name: string, ...input: string[]) => ({ opType: 'Add', name, input, output: [name] });
  const namesOf = async (node: readonly NodeInit[]) =>
    (await loadBytes(encode(smallModel({ node })))).proto.graph!.node.map(({ name }) => name);

  it('are moved after the nodes that they read, and no others are', async () => {
    expect(await namesOf([add('b', 'c', 'x'), add('a', 'y', 'x'), add('c', 'a', 'a')])).toEqual(['add', 'a', 'c', 'b']);
    expect(await namesOf([add('a', 'y', 'x'), add('b', 'x', 'x')])).toEqual(['add', 'a', 'b']);
  });

  it('are moved after the nodes that their branches read', async () => {
    const branch = { name: 'branch', node: [add('inner', 'a', 'x')], output: [{ name: 'inner' }] };
    const attribute = ['then_branch', 'else_branch'].map((name) => ({ name, type: AttributeType.GRAPH, g: branch }));
    const choice = { opType: 'If', name: 'choice', input: ['x'], output: ['chosen'], attribute };
    expect(await namesOf([choice, add('a', 'y', 'x')])).toEqual(['add', 'a', 'choice']);
  });
});
