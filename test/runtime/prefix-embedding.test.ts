import { makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { readModelInputs } from '../../src/onnx/model-inputs.js';
import { prefillFeeds } from '../../src/runtime/prefill-feeds.js';
import { prefixEmbedding } from '../../src/runtime/prefix-embedding.js';
import { testEngine } from '../support/engine.js';
import { loadShortLlama } from '../support/short-llama.js';
import { load, type SplitLlama, splitShortLlama, toBytes } from '../support/split-llama.js';
import { runModel, someWindows } from '../support/tiny-llama.js';

const windows = someWindows(2, 9);

async function compose(edit: (halves: SplitLlama) => void = () => undefined) {
  const halves = splitShortLlama();
  edit(halves);
  const decoder = await testEngine.load(toBytes(halves.decoder));
  return prefixEmbedding(testEngine, decoder, await load(halves.embedding));
}

it('creates a session that reads token ids, with the logits of the undivided model', async () => {
  const session = await compose();
  const { model } = await loadShortLlama();
  const inputs = readModelInputs(model.proto.graph!);
  expect(session.inputs.map(({ name }) => name)).toEqual(inputs.map(({ name }) => name));
  const feeds = prefillFeeds(inputs, { batchSize: 2, sequenceLength: 9 }, [...windows[0]!, ...windows[1]!]);
  const { logits } = await session.run(feeds, ['logits']);
  await session.release();
  expect(logits).toEqual((await runModel(model, windows)).logits);
});

it('declares the batch size of the decoder, and casts embeddings to its type', async () => {
  const session = await compose(({ decoder, embedding }) => {
    decoder.graph!.input[0] = makeValueInfo('inputs_embeds', 1, [1, 'sequence', 192]);
    const cast = makeNode({ op: 'Cast', inputs: ['inputs_embeds'], outputs: ['half'], attributes: { to: 10 } });
    embedding.graph!.node.push(cast);
    embedding.graph!.output = [makeValueInfo('half', 10, ['batch', 'sequence', 192])];
  });
  expect(session.inputs[0]).toEqual({ name: 'input_ids', type: 'int64', dims: [1, 'sequence'] });
  const inputs = readModelInputs((await loadShortLlama()).model.proto.graph!);
  const { logits } = await session.run(prefillFeeds(inputs, { batchSize: 1, sequenceLength: 9 }, windows[0]!));
  await session.release();
  expect(logits!.dims).toEqual([1, 9, 2048]);
});
