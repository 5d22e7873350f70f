import { readFileSync } from 'node:fs';
import { createTokenizer } from '../../src/calibration/tokenizer.js';
import type { LanguageModel } from '../../src/evaluation/language-model.js';
import { createLanguageModel } from '../../src/evaluation/session-language-model.js';
import { testEngine } from '../support/engine.js';
import { FUSED_LLAMA } from '../support/short-llama.js';

const FOLDER = 'examples/models/tiny-llama';
const readJson = (name: string) => JSON.parse(readFileSync(`${FOLDER}/${name}`, 'utf8')) as unknown;

/** A file that comes with the model. */
export const readTinyLlamaFile = (name: string): string => readFileSync(`${FOLDER}/${name}`, 'utf8');

export const tinyLlamaTokenizer = createTokenizer(readJson('tokenizer.json'), readJson('tokenizer_config.json'));

/** Loads the example model, in fused operators. */
export async function loadTinyLlama(): Promise<LanguageModel> {
  return createLanguageModel({
    engine: testEngine,
    session: await testEngine.load(readFileSync(`${FUSED_LLAMA}/onnx/model.onnx`)),
  });
}
