import { create, toBinary } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, OperatorSetIdProtoSchema } from 'onnx-buf';
import { createGramStrips, mirrorUpper } from '../../src/activations/gram-strips.js';
import { makeValueInfo } from '../../src/graph/build.js';
import { multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';
import { createNodeEngine } from '../../src/node/node-engine.js';

const TOKENS = 20;

async function gramOf(channels: Float32Array, size: number, opset: number): Promise<Float64Array> {
  const gram = createGramStrips({ name: 'gram', left: 'x', right: 'x', size });
  const model = create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: BigInt(opset) })],
    graph: create(GraphProtoSchema, {
      name: 'gram',
      node: [...gram.nodes],
      initializer: [...gram.initializers],
      input: [makeValueInfo('x', 1, [size, TOKENS])],
      output: gram.outputs.map((name) => makeValueInfo(name, 1)),
    }),
  });
  const session = await (await createNodeEngine()).load(toBinary(ModelProtoSchema, model));
  const sum = new Float64Array(size * size);
  const x = { type: 'float32', dims: [size, TOKENS], data: channels } as const;
  for (let batch = 0; batch < 2; batch += 1) gram.addTo(sum, await session.run({ x }));
  await session.release();
  mirrorUpper(sum, size);
  return sum;
}

describe('createGramStrips', () => {
  // One strip, two of them, eight that do not come out even.
  it.each([
    [1, 17],
    [100, 17],
    [129, 9],
    [1030, 17],
  ])('gives the whole product for %i channels at opset %i', async (size, opset) => {
    const random = createRandom(size);
    const channels = Float32Array.from({ length: size * TOKENS }, () => drawNormal(random));
    const twice = await gramOf(channels, size, opset);
    const exact = Float64Array.from(channels);
    const wanted = multiplyTransposed(exact, exact, { rows: size, columns: size, inner: TOKENS });
    const worst = wanted.reduce((most, value, at) => Math.max(most, Math.abs(2 * value - twice[at]!)), 0);
    expect(worst).toBeLessThan(1e-4);
  });
});
