import { create, toBinary } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, OperatorSetIdProtoSchema } from 'onnx-buf';
import { makeInitializer, makeInt64Initializer, makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { encodeFloats } from '../../src/onnx/float-encoding.js';
import { indexGraph } from '../../src/onnx/graph-index.js';
import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import type { OnnxModel } from '../../src/onnx/onnx-model.js';
import { saveModel } from '../../src/onnx/save-model.js';
import { expandGathers, fuseGathers, hasExpandedGathers } from '../../src/quantisation/expand-gathers.js';
import { tidyModel } from '../../src/removal/tidy-model.js';
import { testEngine } from '../support/engine.js';

const [ROWS, WIDTH, BLOCK] = [40, 96, 32];
const FLOAT = { float32: 1, float16: 10 } as const;

/** Types of a lookup's scales and result; `cast`: float16 scales that are cast to float32. */
const TYPES = {
  float32: { stored: FLOAT.float32, result: FLOAT.float32 },
  float16: { stored: FLOAT.float16, result: FLOAT.float16 },
  cast: { stored: FLOAT.float16, result: FLOAT.float32 },
} as const;

/** A table of codes whose rows are gathered; codes of a tied table are stored in blocks. */
function lookupModel(type: keyof typeof TYPES, bits: 4 | 8, isTied: boolean): Promise<OnnxModel> {
  const { stored, result } = TYPES[type];
  const isCast = stored !== result;
  const blocks = WIDTH / BLOCK;
  const codes = Uint8Array.from({ length: (ROWS * WIDTH * bits) / 8 }, (_, at) => (at * 97) % 256);
  const scales = Float32Array.from({ length: ROWS * blocks }, (_, at) => 0.01 + 0.003 * (at % 11));
  const rows = isTied ? 'rows' : 'w_Q8';
  const graph = create(GraphProtoSchema, {
    name: 'lookup',
    input: [makeValueInfo('ids', 7, ['batch', 'sequence'])],
    output: [makeValueInfo('y', result, ['batch', 'sequence', WIDTH])],
    initializer: [
      makeInitializer('w_Q8', 2, isTied ? [ROWS, blocks, (BLOCK * bits) / 8] : [ROWS, (WIDTH * bits) / 8], codes),
      makeInitializer('w_scales', stored, [ROWS, blocks], encodeFloats(stored, scales)),
      ...(isTied ? [makeInt64Initializer('w_rows_shape', [ROWS, (WIDTH * bits) / 8])] : []),
    ],
    node: [
      ...(isCast
        ? [makeNode({ op: 'Cast', inputs: ['w_scales'], outputs: ['scales'], attributes: { to: result } })]
        : []),
      ...(isTied ? [makeNode({ op: 'Reshape', inputs: ['w_Q8', 'w_rows_shape'], outputs: ['rows'] })] : []),
      makeNode({
        op: 'GatherBlockQuantized',
        domain: 'com.microsoft',
        name: 'embed_Q8',
        inputs: [rows, 'ids', isCast ? 'scales' : 'w_scales'],
        outputs: ['y'],
        attributes: { gather_axis: 0, quantize_axis: 1, block_size: BLOCK, bits },
      }),
    ],
  });
  const opsetImport = Object.entries({ '': 17n, 'com.microsoft': 1n }).map(([domain, version]) =>
    create(OperatorSetIdProtoSchema, { domain, version }),
  );
  const bytes = toBinary(ModelProtoSchema, create(ModelProtoSchema, { irVersion: 8n, opsetImport, graph }));
  return loadModel(bytesSource('model.onnx', bytes), createMemoryFolder('in', new Map()));
}

async function run(model: OnnxModel): Promise<ArrayLike<number>> {
  const files = new Map<string, Uint8Array>();
  await saveModel(model, createMemoryFolder('out', files), 'model.onnx');
  const session = await testEngine.load(files.get('model.onnx')!);
  const ids = { type: 'int64', dims: [2, 3], data: BigInt64Array.of(0n, 7n, 39n, 1n, 1n, 20n) } as const;
  const { y } = await session.run({ ids });
  await session.release();
  return y!.data as ArrayLike<number>;
}

describe.each(Object.keys(TYPES) as (keyof typeof TYPES)[])('lookups of codes with scales in %s', (type) => {
  it.each([
    [8, false],
    [8, true],
    [4, false],
    [4, true],
  ] as const)('of %i bits give the same numbers by standard operators (tied: %s)', async (bits, isTied) => {
    const model = await lookupModel(type, bits, isTied);
    const fused = await run(model);
    expandGathers(model, new Map([['y', { dims: [2, 3, WIDTH], dataType: TYPES[type].result }]]));
    tidyModel(model);
    const nodes = model.proto.graph!.node;
    expect(nodes.every(({ domain }) => domain === '')).toBe(true);
    // The table is read as it is stored.
    expect(nodes.find(({ opType }) => opType === 'Gather')!.input[0]).toBe('w_Q8');
    expect(await run(model)).toEqual(fused);

    expect(hasExpandedGathers(model)).toBe(true);
    fuseGathers(model);
    tidyModel(model);
    const casts = model.proto.graph!.node.filter(({ opType }) => opType === 'Cast');
    expect(casts).toHaveLength(type === 'cast' ? 1 : 0);
    const others = model.proto.graph!.node.filter((node) => !casts.includes(node));
    expect(others.map(({ name, opType }) => [name, opType])).toEqual([['embed_Q8', 'GatherBlockQuantized']]);
    expect(indexGraph(model.proto.graph!).inputs).toEqual(new Set(['ids']));
    expect(hasExpandedGathers(model)).toBe(false);
  });
});

it('does not change a lookup of unknown dims, or of two bits', async () => {
  const model = await lookupModel('float32', 8, false);
  const before = toBinary(ModelProtoSchema, model.proto);
  expandGathers(model, new Map());
  expect(toBinary(ModelProtoSchema, model.proto)).toEqual(before);
  const [lookup] = model.proto.graph!.node;
  lookup!.attribute.find(({ name }) => name === 'bits')!.i = 2n;
  expandGathers(model, new Map([['y', { dims: [2, 3, WIDTH], dataType: 1 }]]));
  expect(model.proto.graph!.node).toHaveLength(1);
});
