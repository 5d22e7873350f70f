import { create } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema } from 'onnx-buf';
import { createRandom } from '../../src/linalg/random.js';
import { makeInitializer, makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { setWeight } from '../../src/onnx/edit-weights.js';
import { readFloat32 } from '../../src/onnx/float-encoding.js';
import type { OnnxModel, TensorHandle } from '../../src/onnx/onnx-model.js';
import { bytesHandle, floatsHandle } from '../../src/onnx/tensor-handle.js';
import { quantisedSource } from '../../src/quantisation/coded-handle.js';
import { dequantiseGraph } from '../../src/quantisation/dequantise-graph.js';
import { type LinearCodes, readLinearCodes } from '../../src/quantisation/linear-codes.js';
import { writeConstants } from '../../src/quantisation/write-linear.js';
import { tidyModel } from '../../src/removal/tidy-model.js';
import { runGraph } from '../support/load-graph.js';

const [ROWS, CHANNELS] = [20, 8];
const random = createRandom(3);
const named = (name: string, handle: TensorHandle) => ({ name, handle });
const bytes = (name: string, dataType: number, ...dims: number[]) => {
  const count = dims.reduce((product, dim) => product * dim, 1) / (dataType > 20 ? 2 : 1);
  const values = Uint8Array.from({ length: count }, () => Math.floor(random() * 256));
  return named(name, bytesHandle({ dataType, dims }, values));
};
const scales = (...dims: number[]) =>
  named(
    's',
    floatsHandle(
      { dataType: 1, dims },
      Float32Array.from({ length: dims.reduce((product, dim) => product * dim, 1) }, () => random() + 0.1),
    ),
  );

const TABLES: Readonly<Record<string, LinearCodes>> = {
  'one scale': {
    codes: bytes('w', 2, ROWS, CHANNELS),
    scales: scales(),
    zeroPoints: bytes('z', 2),
    axis: 1,
    blockSize: 0,
  },
  'a scale per row': { codes: bytes('w', 3, ROWS, CHANNELS), scales: scales(ROWS), axis: 0, blockSize: 0 },
  'a scale and a zero point per row': {
    codes: bytes('w', 2, ROWS, CHANNELS),
    scales: scales(ROWS),
    zeroPoints: bytes('z', 2, ROWS),
    axis: 0,
    blockSize: 0,
  },
  'a scale per column': { codes: bytes('w', 3, ROWS, CHANNELS), scales: scales(CHANNELS), axis: 1, blockSize: 0 },
  'four bits': { codes: bytes('w', 22, ROWS, CHANNELS), scales: scales(ROWS), axis: 0, blockSize: 0 },
  blocks: { codes: bytes('w', 3, ROWS, CHANNELS), scales: scales(ROWS, 2), axis: 1, blockSize: 4 },
};

/** Gathered rows of a table, and their products with all rows. */
function tied(handle: TensorHandle): OnnxModel {
  const node = [
    makeNode({ op: 'Gather', inputs: ['table', 'ids'], outputs: ['x'] }),
    makeNode({ op: 'Transpose', inputs: ['table'], outputs: ['turned'], attributes: { perm: [1, 0] } }),
    makeNode({ op: 'MatMul', inputs: ['x', 'turned'], outputs: ['y'] }),
  ];
  const graph = create(GraphProtoSchema, { node, output: [makeValueInfo('x', 1), makeValueInfo('y', 1)] });
  const model = { proto: create(ModelProtoSchema, { graph }), weights: new Map<string, TensorHandle>() };
  setWeight(model, 'table', handle);
  return model;
}

async function run({ proto, weights }: OnnxModel) {
  const initializers = await Promise.all(
    [...weights].map(async ([name, { dataType, dims, read }]) =>
      makeInitializer(name, dataType, [...dims], await read()),
    ),
  );
  const inputs = { ids: { type: 'int64', dims: [3], data: BigInt64Array.of(4n, 0n, 19n) } } as const;
  const { x, y } = await runGraph({ nodes: proto.graph!.node, initializers, inputs, outputs: ['x', 'y'], opset: 21 });
  return { rows: [...(x!.data as Float32Array)], products: [...(y!.data as Float32Array)] };
}

describe.each(Object.entries(TABLES))('a table in linear codes with %s', (_, linear) => {
  it('computes with the values of its codes, and is read back as codes', async () => {
    const floats = floatsHandle({ dataType: 1, dims: [ROWS, CHANNELS] }, await readLinearCodes(linear));
    const expected = await run(tied(floats));
    const model = tied(floats);
    writeConstants(model, [{ name: 'table', linear }]);
    tidyModel(model);
    expect([...model.weights.values()].filter(({ dims }) => dims.length === 2 && dims[0] === ROWS)).not.toContain(
      floats,
    );
    const found = await run(model);
    found.rows.forEach((value, at) => {
      expect(value).toBeCloseTo(expected.rows[at]!, 4);
    });
    // ONNX Runtime makes MatMulNBits of products with DequantizeLinear, which may round activations to eight bits.
    const bound = 1e-2 * Math.max(...expected.products.map(Math.abs));
    found.products.forEach((value, at) => {
      expect(Math.abs(value - expected.products[at]!)).toBeLessThan(bound);
    });
    const read = dequantiseGraph(model);
    const coded = [...read.weights.values()].filter((handle) => quantisedSource(handle) !== undefined);
    expect(coded).toHaveLength(1);
    expect(await readFloat32(coded[0]!)).toEqual(await readFloat32(floats));
    expect(read.proto.graph!.node.map(({ opType }) => opType)).toEqual(['Gather', 'Transpose', 'MatMul']);
  });
});
