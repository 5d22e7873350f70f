import { create, toBinary } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, OperatorSetIdProtoSchema } from 'onnx-buf';
import { createChangeMeter } from '../../src/activations/measure-change.js';
import { makeValueInfo } from '../../src/onnx/build.js';
import type { Batch } from '../../src/runtime/block-runner.js';
import type { Tensor } from '../../src/runtime/engine.js';
import { testEngine } from '../support/engine.js';

const tensor = (dims: number[], data: number[]): Tensor => ({ type: 'float32', dims, data: Float32Array.from(data) });
const batch: Batch = { index: 0, firstToken: 0, batchSize: 2, sequenceLength: 2, tokens: new Int32Array(4) };

/** Runs the meter twice in a graph whose only value is fed. */
async function changeTwice(before: Tensor, after: Tensor, opset: number): Promise<number> {
  const request = { index: 3, output: 'after', channelCount: 2, before: async () => before, type: before.type };
  const meter = createChangeMeter(request);
  const { nodes, initializers, inputs, outputs } = meter.extension;
  const model = create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: BigInt(opset) })],
    graph: create(GraphProtoSchema, {
      name: 'change',
      node: [...nodes],
      initializer: [...initializers],
      input: ['after', ...inputs.map(({ name }) => name)].map((name) => makeValueInfo(name, 1)),
      output: outputs.map((name) => makeValueInfo(name, 1)),
    }),
  });
  const session = await testEngine.load(toBinary(ModelProtoSchema, model));
  for (let run = 0; run < 2; run += 1) meter.add(batch, await session.run({ after, ...(await meter.feeds(batch)) }));
  await session.release();
  return meter.finish().sum;
}

it.each([9, 17])('sums over tokens for both shapes of the residual stream (opset %i)', async (opset) => {
  const before = tensor([2, 2, 2], [1, 0, 0, 2, 3, 0, 1, 1]);
  const values = [1, 0, 4, 0, -1, 0, 1, 0];
  const expected = 2 * (0 + 1 + 2 + (1 - Math.SQRT1_2));
  expect(await changeTwice(before, tensor([2, 2, 2], values), opset)).toBeCloseTo(expected, 6);
  expect(await changeTwice(before, tensor([4, 2], values), opset)).toBeCloseTo(expected, 6);
});
