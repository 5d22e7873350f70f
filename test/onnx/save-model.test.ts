import { create, fromBinary, toBinary, type UnknownField } from '@bufbuild/protobuf';
import { type ModelProto, ModelProtoSchema } from 'onnx-buf';
import { ModelFormatError } from '../../src/errors.js';
import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import type { OnnxModel } from '../../src/onnx/onnx-model.js';
import { planExternalFiles, type SaveOptions, saveModel } from '../../src/onnx/save-model.js';
import { bytesHandle } from '../../src/onnx/tensor-handle.js';
import { testEngine } from '../support/engine.js';
import { constantNode, encode, externalIn, floatTensor, loadBytes, rawFloats, smallModel } from './small-model.js';

const ramp = (length: number) => Float32Array.from({ length }, (_, i) => Math.sin(i));

async function save(model: OnnxModel, options: SaveOptions = {}, fileName = 'model.onnx') {
  const files = new Map<string, Uint8Array>();
  const folder = createMemoryFolder('out', files);
  const saved = await saveModel(model, folder, fileName, options);
  return { files, folder, saved };
}

async function saveAndLoad(model: OnnxModel, options: SaveOptions = {}) {
  const { files, folder, saved } = await save(model, options);
  return { files, saved, again: await loadModel(bytesSource('model.onnx', files.get('model.onnx')!), folder) };
}

async function weightBytes({ weights }: OnnxModel) {
  return Promise.all(
    [...weights].map(async ([name, handle]) => [name, handle.dataType, handle.dims, await handle.read()]),
  );
}

const structure = ({ proto }: { readonly proto: ModelProto }) => toBinary(ModelProtoSchema, proto);

const rich = () =>
  smallModel({
    initializer: [
      floatTensor('page', [16384], ramp(16384)),
      floatTensor('middle', [700], ramp(700)),
      { name: 'half', dataType: 10, dims: [2n], int32Data: [0x3c00, 0xfe01], docString: 'two halves' },
      { name: 'text', dataType: 8, dims: [1n], stringData: [Uint8Array.of(104, 105)] },
      { name: 'none', dataType: 1, dims: [0n] },
    ],
    node: [constantNode('large', floatTensor('', [400], ramp(400)))],
  });

describe('a saved model', () => {
  const layouts: readonly (readonly [string, SaveOptions['layout'] & {}])[] = [
    ['inline', 'inline'],
    ['as in the source', 'source'],
    ['external', { external: {} }],
    ['external, all tensors', { external: { location: 'weights/all.bin', thresholdBytes: 0 } }],
  ];

  it.each(layouts)('equals the loaded one: %s', async (_, layout) => {
    const model = await loadBytes(encode(rich()));
    const { again, saved, files } = await saveAndLoad(model, { layout });
    expect(await weightBytes(again)).toEqual(await weightBytes(model));
    expect(structure(again)).toEqual(structure(model));
    expect(saved.files).toEqual([...files].map(([path, bytes]) => ({ path, byteLength: bytes.byteLength })));
  });

  it('gives the same outputs in ONNX Runtime', async () => {
    const { files } = await save(await loadBytes(encode(smallModel())));
    const session = await testEngine.load(files.get('model.onnx')!);
    const { y } = await session.run({ x: { type: 'float32', dims: [4], data: Float32Array.of(1, 1, 1, 1) } });
    await session.release();
    expect(y!.data).toEqual(Float32Array.of(2, -1, 1.5, 1 + 1e-3));
  });

  it('keeps unknown fields at every level', async () => {
    const proto = rich();
    const unknown = (no: number): UnknownField[] => [{ no, wireType: 2, data: Uint8Array.of(2, no, 7) }];
    proto.$unknown = unknown(100);
    proto.graph!.$unknown = unknown(101);
    proto.graph!.node[0]!.$unknown = unknown(102);
    for (const tensor of proto.graph!.initializer) tensor.$unknown = unknown(103);
    const { again } = await saveAndLoad(await loadBytes(encode(proto)));
    expect(again.proto.$unknown).toEqual(unknown(100));
    expect(again.proto.graph!.$unknown).toEqual(unknown(101));
    expect(again.proto.graph!.node[0]!.$unknown).toEqual(unknown(102));
    expect(again.proto.graph!.initializer.map(({ $unknown }) => $unknown?.[0]?.no)).toEqual([
      103,
      103,
      103,
      103,
      103,
      103,
      undefined,
    ]);
  });

  it('keeps metadata, functions, sparse initializers and annotations', async () => {
    const proto = rich();
    const more = create(ModelProtoSchema, {
      metadataProps: [{ key: 'a', value: 'b' }],
      functions: [{ name: 'f', domain: 'd' }],
      trainingInfo: [{ initialization: { name: 'i' } }],
      graph: {
        sparseInitializer: [{ values: { name: 's', dataType: 1, dims: [1n], floatData: [2] }, dims: [9n] }],
        quantizationAnnotation: [{ tensorName: 'w' }],
      },
    });
    // Messages may be concatenated; the pieces of the graph are merged.
    const { again } = await saveAndLoad(await loadBytes(Uint8Array.of(...encode(proto), ...encode(more))));
    expect(again.proto.metadataProps).toEqual(more.metadataProps);
    expect(again.proto.functions).toEqual(more.functions);
    expect(again.proto.trainingInfo).toEqual(more.trainingInfo);
    expect(again.proto.graph!.sparseInitializer).toEqual(more.graph!.sparseInitializer);
    expect(again.proto.graph!.quantizationAnnotation).toEqual(more.graph!.quantizationAnnotation);
    expect(again.weights.size).toBe(6);
  });
});

describe('layout', () => {
  const externalEntries = (bytes: Uint8Array) =>
    fromBinary(ModelProtoSchema, bytes)
      .graph!.initializer.filter(({ dataLocation }) => dataLocation === 1)
      .map(({ name, externalData }) => [name, ...externalData.map(({ value }) => value)]);

  it('aligns large tensors to pages, and keeps small ones in the model file', async () => {
    const { files } = await save(await loadBytes(encode(rich())), { layout: { external: {} } });
    expect([...files.keys()]).toEqual(['model.onnx', 'model.onnx_data']);
    expect(externalEntries(files.get('model.onnx')!)).toEqual([
      ['page', 'model.onnx_data', '0', '65536'],
      ['middle', 'model.onnx_data', '65536', '2800'],
      ['large', 'model.onnx_data', '68352', '1600'],
    ]);
    expect(files.get('model.onnx_data')!.byteLength).toBe(68352 + 1600);
  });

  it("keeps the source's file name and threshold, next to the model file", async () => {
    const outside = { name: 'e', dataType: 1, dims: [8n], ...externalIn({ location: 'model.onnx.data', offset: '4' }) };
    const model = await loadBytes(encode(smallModel({ initializer: [outside] })), {
      'model.onnx.data': rawFloats([0, 1, 2, 3, 4, 5, 6, 7, 8]),
    });
    const { files } = await save(model, {}, 'onnx/model.onnx');
    expect([...files.keys()]).toEqual(['onnx/model.onnx', 'onnx/model.onnx.data']);
    expect(files.get('onnx/model.onnx.data')).toEqual(rawFloats([1, 2, 3, 4, 5, 6, 7, 8]));
    expect(externalEntries(files.get('onnx/model.onnx')!)).toEqual([['e', 'model.onnx.data', '0', '32']]);
    expect([...(await save(model, { layout: 'inline' })).files.keys()]).toEqual(['model.onnx']);
  });

  it.each([
    ['onnx/other.bin', 'onnx/model.onnx_data'],
    ['other.bin', 'onnx/other.bin'],
  ])('does not replace another file of the folder: %s', async (path, expected) => {
    const outside = { name: 'e', dataType: 1, dims: [2n], ...externalIn({ location: 'other.bin' }) };
    const model = await loadBytes(encode(smallModel({ initializer: [outside] })), { 'other.bin': rawFloats([1, 2]) });
    const { files } = await save(model, { taken: new Set([path]) }, 'onnx/model.onnx');
    expect([...files.keys()]).toEqual(['onnx/model.onnx', expected]);
  });

  it('keeps tensors of sizes in the model file if all others are external', async () => {
    const ints = new Uint8Array(BigInt64Array.of(2n, 3n).buffer);
    const initializer = [
      { name: 'split', dataType: 7, dims: [2n], rawData: ints },
      { name: 'ids', dataType: 7, dims: [200n], rawData: new Uint8Array(1600) },
    ];
    const { files, again } = await saveAndLoad(await loadBytes(encode(smallModel({ initializer }))), {
      layout: { external: { thresholdBytes: 0 } },
    });
    expect(externalEntries(files.get('model.onnx')!).map(([name]) => name)).toEqual(['w', 'ids']);
    expect(await again.weights.get('split')!.read()).toEqual(ints);
  });

  it('writes external data if the protobuf would exceed 2 GiB', async () => {
    const model = await loadBytes(encode(smallModel()));
    const shape = { dataType: 1, dims: [2 ** 29], byteLength: 2 ** 31 };
    model.weights.set('w', { ...shape, read: async (range) => new Uint8Array(range!.length) });
    const written = new Map<string, number>();
    const count = (path: string, bytes: Uint8Array) => written.set(path, (written.get(path) ?? 0) + bytes.byteLength);
    const folder = {
      create: async (path: string) => ({
        write: async (bytes: Uint8Array) => void count(path, bytes),
        close: async () => {},
      }),
    };
    const saved = await saveModel(model, folder, 'model.onnx', { layout: 'inline' });
    expect(saved.files.map(({ path }) => path)).toEqual(['model.onnx', 'model.onnx_data']);
    expect(written.get('model.onnx_data')).toBe(2 ** 31);
  });

  it('splits external data by fileBytes, and numbers files as transformers.js does', async () => {
    const initializer = [1, 2, 3, 4].map((at) => floatTensor(`w${at}`, [1024], ramp(1024 * at).subarray(-1024)));
    const model = await loadBytes(encode(smallModel({ initializer })));
    const layout = { external: { fileBytes: 8192 } };
    const { again, saved, files } = await saveAndLoad(model, { layout });
    expect(saved.files.map(({ path }) => path)).toEqual(['model.onnx', 'model.onnx_data', 'model.onnx_data_1']);
    expect(externalEntries(files.get('model.onnx')!)).toEqual([
      ['w1', 'model.onnx_data', '0', '4096'],
      ['w2', 'model.onnx_data', '4096', '4096'],
      ['w3', 'model.onnx_data_1', '0', '4096'],
      ['w4', 'model.onnx_data_1', '4096', '4096'],
    ]);
    expect(await weightBytes(again)).toEqual(await weightBytes(model));
    expect(planExternalFiles(model, 'onnx/model.onnx', { layout })).toEqual(['model.onnx_data', 'model.onnx_data_1']);
    // A weight that is larger has a file by itself.
    const small = { external: { fileBytes: 4095 } };
    expect(planExternalFiles(model, 'model.onnx', { layout: small })).toHaveLength(4);
    expect(planExternalFiles(model, 'model.onnx')).toEqual([]);
  });

  it('starts another file after 2 GiB', async () => {
    const initializer = ['a', 'b', 'c'].map((name) => floatTensor(name, [1], [1]));
    const model = await loadBytes(encode(smallModel({ initializer })));
    const handle = { dataType: 1, dims: [2 ** 28], byteLength: 2 ** 30, read: async () => new Uint8Array(0) };
    for (const name of ['a', 'b', 'c']) model.weights.set(name, handle);
    expect(planExternalFiles(model, 'model.onnx')).toEqual([
      'model.onnx_data',
      'model.onnx_data_1',
      'model.onnx_data_2',
    ]);
    model.weights.set('b', { ...handle, dims: [2 ** 28 - 1024], byteLength: 2 ** 30 - 4096 });
    expect(planExternalFiles(model, 'model.onnx')).toEqual(['model.onnx_data', 'model.onnx_data_1']);
  });

  it('does not overwrite the model file', async () => {
    const model = await loadBytes(encode(smallModel()));
    const { files } = await save(model, { layout: { external: { location: './model.onnx', thresholdBytes: 0 } } });
    expect([...files.keys()]).toEqual(['model.onnx', 'model.onnx_data']);
    await expect(save(model, { layout: { external: { location: '../w' } } })).rejects.toThrow(ModelFormatError);
  });
});

describe('changed weights', () => {
  it('are saved with the shape and type of their handle', async () => {
    const model = await loadBytes(encode(smallModel()));
    model.weights.set('w', bytesHandle({ dataType: 10, dims: [1, 2] }, Uint8Array.of(1, 2, 3, 4)));
    const { again } = await saveAndLoad(model);
    expect(again.weights.get('w')).toMatchObject({ dataType: 10, dims: [1, 2] });
    expect(await again.weights.get('w')!.read()).toEqual(Uint8Array.of(1, 2, 3, 4));
  });

  it('throw if their length is not the declared one', async () => {
    const model = await loadBytes(encode(smallModel()));
    model.weights.set('w', { dataType: 1, dims: [4], byteLength: 12, read: async () => new Uint8Array(12) });
    await expect(save(model)).rejects.toThrow(/"w" is float\[4\], 16 bytes, but promises 12/);
    model.weights.set('w', { dataType: 1, dims: [4], byteLength: 16, read: async () => new Uint8Array(12) });
    await expect(save(model)).rejects.toThrow(ModelFormatError);
  });

  it('throw with their name if they are missing', async () => {
    const model = await loadBytes(encode(smallModel()));
    model.weights.delete('w');
    await expect(save(model)).rejects.toThrow(/"w" has no weight/);
  });
});

it('reports progress, and stops when aborted', async () => {
  const model = await loadBytes(encode(rich()));
  const done: number[] = [];
  await save(model, { onProgress: (progress) => done.push(progress.done / progress.total) });
  expect(done.at(-1)).toBe(1);
  expect(done).toEqual([...done].sort((a, b) => a - b));
  const signal = AbortSignal.abort();
  await expect(save(model, { signal })).rejects.toThrow(/abort/i);
});
