/** Measures a model with the library's modules alone: `npx tsx examples/16-evaluate-by-hand.ts` */
import { readFile } from 'node:fs/promises';
import { createNodeEngine } from 'fang-prune';
import * as core from 'fang-prune/core';

const place = 'examples/models/tiny-llama';
const readJson = async (name: string) => JSON.parse(await readFile(`${place}/${name}`, 'utf8')) as unknown;
const tokenizer = core.createTokenizer(await readJson('tokenizer.json'), await readJson('tokenizer_config.json'));
const engine = await createNodeEngine();
const session = await engine.load(new Uint8Array(await readFile(`${place}/onnx/model.onnx`)));
const model = await core.createLanguageModel({ engine, session });

const text = 'Once upon a time there was a girl who had three cats. She went to the market every morning.';
const { perplexity, tokenCount } = await core.measureTextPerplexity(model, { text, tokenizer });
console.log(`perplexity ${perplexity.toFixed(2)} over ${tokenCount} tokens`);

const written: number[] = [];
for await (const token of core.generate(model, tokenizer.encode('Once upon'), { newTokens: 4 })) written.push(token);
console.log(`Once upon${tokenizer.decode(written)}`);

const { windows } = await core.generateCalibration(model, {
  windowCount: 1,
  windowLength: 16,
  startToken: 0,
  endTokens: [],
});
console.log(`a window of ${windows[0]!.length} tokens that the model wrote`);

const item = { query: 'Once upon a', choices: ['time', 'cat'], gold: 0 };
const items = [];
for await (const read of core.readTaskItems([JSON.stringify(item)])) items.push(read);
const { kind, itemCount, acc } = await core.measureTask(model, items, { tokenizer });
console.log(`${itemCount} item of ${kind}, acc ${acc}`);
await model.release();
