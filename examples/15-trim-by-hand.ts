/** Trims a vocabulary with the library's modules alone: `npx tsx examples/15-trim-by-hand.ts` */
import { readFile } from 'node:fs/promises';
import * as core from 'fang-prune/core';

const place = 'examples/models/tiny-llama';
const readJson = async (name: string) =>
  JSON.parse(await readFile(`${place}/${name}`, 'utf8')) as Readonly<Record<string, unknown>>;

const bytes = new Uint8Array(await readFile(`${place}/onnx/model.onnx`));
const folder = core.createMemoryFolder('tiny-llama', new Map([['model.onnx', bytes]]));
const model = await core.loadModel((await folder.open('model.onnx'))!, folder);

// Which tokens stay: those of English, and what the configuration names.
const file = core.readTokenizerFile(await readJson('tokenizer.json'));
const chosen = await core.chooseTokens(file, { languages: ['en'], named: new Set([0]) });
const ids = core.renumberIds(chosen.keep);

// Graph, tokenizer and configuration with the new ids.
const trace = await core.traceVocabulary(model, 'decoder');
core.cutVocabulary(model, trace, ids);
const tokenizer = core.createTokenizer(core.trimTokenizer(file, ids), await readJson('tokenizer_config.json'));
const config = core.renumberDocument(await readJson('config.json'), ids);

console.log(`${file.contents.length} -> ${chosen.keep.length} tokens in ${trace.tables.size} tables`);
console.log(
  `vocab_size ${config.vocab_size}; "Once upon a time" is ${tokenizer.encode('Once upon a time').length} tokens`,
);
