/** Differentiates a model: the gradient of its loss at the neurons of every block, computed by an ONNX graph. */
import { readFile } from 'node:fs/promises';
import { createNodeEngine } from 'fang-prune';
import { analyseModel, createMemoryFolder, differentiateModel, loadModel, prefillFeeds } from 'fang-prune/core';

const file = new Uint8Array(await readFile('examples/models/tiny-llama/onnx/model.onnx'));
const folder = createMemoryFolder('tiny-llama', new Map([['model.onnx', file]]));
const model = await loadModel((await folder.open('model.onnx'))!, folder);

const engine = await createNodeEngine();
const analysed = await analyseModel(model, engine);
const neurons = analysed.detected.layout.modules.filter(({ kind }) => kind === 'ffn').map(({ output }) => output.input);

const size = { batchSize: 1, sequenceLength: 16 };
const { bytes, tokens, loss, gradients } = await differentiateModel({ model, analysed, wanted: neurons, ...size });

const ids = Array.from({ length: size.sequenceLength }, (_, at) => (at * 37 + 11) % 2048);
const session = await engine.load(bytes);
const results = await session.run({
  ...prefillFeeds(analysed.inputs, size, ids),
  [tokens]: { type: 'int64', dims: [1, size.sequenceLength], data: BigInt64Array.from(ids, BigInt) },
});
await session.release();

console.log(`loss ${(results[loss]!.data as Float32Array)[0]!.toFixed(3)} nats per token`);
neurons.forEach((value, block) => {
  const h = results[value]!.data as Float32Array;
  const gradient = results[gradients.get(value)!]!.data as Float32Array;
  const importance = h.reduce((sum, activation, at) => sum + Math.abs(activation * gradient[at]!), 0) / h.length;
  console.log(`block ${block}: mean |h dL/dh| ${importance.toExponential(2)}`);
});
