import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { type ModelProto, ModelProtoSchema } from 'onnx-buf';
import { quantize } from '../../src/node.js';
import { makeInitializer } from '../../src/onnx/build.js';
import { isEqualTensor, isTransposed } from '../../src/onnx/equal-tensors.js';
import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import { shareWeights } from '../../src/onnx/share-weights.js';
import { bytesHandle } from '../../src/onnx/tensor-handle.js';
import { countParameters } from '../../src/pipeline/result-facts.js';
import { createGraphBuilder, type GraphBuilder } from '../support/graph-builder.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';
import { copyTinyLlama, readTinyLlama, runModel, someWindows } from '../support/tiny-llama.js';

/** Just large enough to be compared. */
const [ROWS, COLUMNS] = [4096, 64] as const;
const FLOAT = 1;
const INT64 = 7;

const table = Array.from({ length: ROWS * COLUMNS }, (_, at) => Math.fround(Math.sin(at)));
const transposed = Array.from(table, (_, at) => table[(at % ROWS) * COLUMNS + Math.floor(at / ROWS)]!);

const open = (bytes: Uint8Array) => loadModel(bytesSource('model.onnx', bytes), createMemoryFolder('none'));

/** A graph of a Gather, and the nodes that `write` adds. */
function graphOf(write: (g: GraphBuilder, rows: string, table: string) => string) {
  const g = createGraphBuilder();
  const ids = g.input('ids', INT64, [1, 3]);
  const own = g.floats([ROWS, COLUMNS], table);
  g.named('result', 'Identity', [write(g, g.op('Gather', [own, ids]), own)]);
  g.output('result', FLOAT, [1, 3, ROWS]);
  return open(g.bytes());
}

const largeWeights = ({ weights }: Awaited<ReturnType<typeof open>>) =>
  [...weights.values()].filter(({ byteLength }) => byteLength >= 2 ** 20).length;

describe('shareWeights', () => {
  it('replaces a transposed copy of a table by a Transpose', async () => {
    const model = await shareWeights(
      await graphOf((g, rows) => g.op('MatMul', [rows, g.floats([COLUMNS, ROWS], transposed)])),
    );
    expect(largeWeights(model)).toBe(1);
    expect(model.shared).toEqual([{ name: expect.any(String), byteLength: ROWS * COLUMNS * 4 }]);
    const [turn] = model.proto.graph!.node;
    expect(turn).toMatchObject({ opType: 'Transpose', output: [model.shared![0]!.name] });
    expect(model.proto.graph!.initializer.map(({ name }) => name)).toEqual(turn!.input);
  });

  it('makes nodes read one of two equal tables', async () => {
    const model = await shareWeights(
      await graphOf((g, rows) =>
        g.op('Gemm', [g.op('Squeeze', [rows]), g.floats([ROWS, COLUMNS], table)], { transB: 1 }),
      ),
    );
    expect(largeWeights(model)).toBe(1);
    const readers = model.proto.graph!.node.filter(({ input }) => input.includes([...model.weights.keys()][0]!));
    expect(readers.map(({ opType }) => opType)).toEqual(['Gather', 'Gemm']);
  });

  it.each<[string, (g: GraphBuilder, rows: string) => string]>([
    [
      'differ in one number',
      (g, rows) =>
        g.op('MatMul', [
          rows,
          g.floats(
            [COLUMNS, ROWS],
            transposed.map((value, at) => (at === 77_777 ? 9 : value)),
          ),
        ]),
    ],
    [
      'are equal weights of two linear layers',
      (g, rows) => {
        const turned = [0, 1].map(() => g.floats([COLUMNS, ROWS], transposed.toReversed()));
        return g.op('Add', [g.op('MatMul', [rows, turned[0]!]), g.op('MatMul', [rows, turned[1]!])]);
      },
    ],
  ])('does not change weights that %s', async (_, write) => {
    const model = await graphOf(write);
    expect(await shareWeights(model)).toBe(model);
  });
});

it('detects transposed matrices of any element size', async () => {
  for (const size of [1, 2, 4] as const) {
    const dataType = { 1: 2, 2: 10, 4: 1 }[size];
    const bytes = Uint8Array.from({ length: 5 * 3 * size }, (_, at) => at * 7);
    const turned = Uint8Array.from(bytes, (_, at) => {
      const [element, byte] = [Math.floor(at / size), at % size];
      return bytes[((element % 5) * 3 + Math.floor(element / 5)) * size + byte]!;
    });
    const [a, b] = [bytesHandle({ dataType, dims: [5, 3] }, bytes), bytesHandle({ dataType, dims: [3, 5] }, turned)];
    expect(await isTransposed(a, b)).toBe(true);
    expect(await isEqualTensor(a, b)).toBe(false);
    turned[turned.length - 1]! ^= 1;
    expect(await isTransposed(a, b)).toBe(false);
  }
});

describe('a model with two copies of its tied table', () => {
  const folder = useTemporaryFolder();
  const at = (path: string) => join(folder(), path);

  /** The bundled model with the transpose of its table as a weight of its own. */
  function untied(): ModelProto {
    const proto = fromBinary(ModelProtoSchema, readTinyLlama());
    const graph = proto.graph!;
    const turn = graph.node.find(({ opType, input: [name] }) => opType === 'Transpose' && /embed/.test(name!))!;
    const { rawData, dims } = graph.initializer.find(({ name }) => name === turn.input[0])!;
    const [rows, columns] = dims.map(Number) as [number, number];
    const values = new Float32Array(Uint8Array.from(rawData).buffer);
    const other = Float32Array.from(values, (_, to) => values[(to % rows) * columns + Math.floor(to / rows)]!);
    graph.initializer.push(makeInitializer(turn.output[0]!, FLOAT, [columns, rows], new Uint8Array(other.buffer)));
    graph.node = graph.node.filter((node) => node !== turn);
    return proto;
  }

  it('is counted, rounded and written with one copy', async () => {
    const bytes = toBinary(ModelProtoSchema, untied());
    const windows = someWindows(1, 9);
    const plain = await open(bytes);
    expect(largeWeights(plain)).toBe(2);
    expect((await runModel(await shareWeights(plain), windows)).logits).toEqual(
      (await runModel(await open(readTinyLlama()), windows)).logits,
    );
    const model = await copyTinyLlama(at('in'));
    await writeFile(join(model, 'onnx/model.onnx'), bytes);
    const request = { dtype: 'q4', rounding: 'nearest', certify: false, evaluation: false } as const;
    const { parameters, remarks } = await quantize({ ...request, model, out: at('out') });
    expect(parameters.before).toBe(countParameters(await open(readTinyLlama())));
    expect(remarks.join()).toMatch(/copy of other weights: counted, rounded and written once, which saves 1\.57 MB/);
    const written = await open(await readFile(at('out/onnx/model_q4.onnx')));
    const codes = [...written.weights.values()].filter(({ byteLength }) => byteLength === 2048 * 192);
    expect(codes).toHaveLength(1);
  });
});
