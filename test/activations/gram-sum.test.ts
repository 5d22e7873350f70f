import { create, toBinary } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, OperatorSetIdProtoSchema } from 'onnx-buf';
import { createGramSum } from '../../src/activations/gram-sum.js';
import { multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';
import { createNodeEngine } from '../../src/node/node-engine.js';
import { makeValueInfo } from '../../src/onnx/build.js';

const TOKENS = 20;
/** More batches than the graph sums before it outputs them. */
const BATCHES = 6;

async function gramOf(channels: Float32Array, size: number, opset: number): Promise<Float64Array> {
  const gram = createGramSum({ name: 'gram', left: 'x', right: 'x', size });
  const model = create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: BigInt(opset) })],
    graph: create(GraphProtoSchema, {
      name: 'gram',
      node: [...gram.nodes],
      initializer: [...gram.initializers],
      input: [makeValueInfo('x', 1, [size, TOKENS]), ...gram.inputs.map(({ name }) => makeValueInfo(name, 1))],
      output: gram.outputs.map((name) => makeValueInfo(name, 1)),
    }),
  });
  const session = await (await createNodeEngine()).load(toBinary(ModelProtoSchema, model));
  const x = { type: 'float32', dims: [size, TOKENS], data: channels } as const;
  for (let batch = 0; batch < BATCHES; batch += 1) gram.add(await session.run({ x, ...gram.feeds() }));
  await session.release();
  return gram.finish(BATCHES * TOKENS);
}

describe('createGramSum', () => {
  // One strip, two strips, and eight of unequal width.
  it.each([
    [1, 17],
    [100, 17],
    [129, 9],
    [1030, 17],
  ])('averages the products of %i channels at opset %i', async (size, opset) => {
    const random = createRandom(size);
    const channels = Float32Array.from({ length: size * TOKENS }, () => drawNormal(random));
    const summed = await gramOf(channels, size, opset);
    const exact = Float64Array.from(channels);
    const wanted = multiplyTransposed(exact, exact, { rows: size, columns: size, inner: TOKENS });
    const worst = wanted.reduce((most, value, at) => Math.max(most, Math.abs(value / TOKENS - summed[at]!)), 0);
    expect(worst).toBeLessThan(1e-6);
  });
});
