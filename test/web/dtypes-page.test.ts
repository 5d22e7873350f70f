import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Chromium, startChromium } from '../../scripts/dtypes/open-in-chromium.js';
import { logitsGap } from '../../src/evaluation/compare-logits.js';
import { nodePlatform } from '../../src/node/node-platform.js';
import { openModelFolder, quantize } from '../../src/node.js';
import { saveModel } from '../../src/onnx/save-model.js';
import { writeDtypeConfig } from '../../src/pipeline/name-variants.js';
import { openLanguageModel } from '../../src/pipeline/open-language-model.js';
import { openFolder } from '../../src/storage/open-folder.js';
import { testEngine } from '../support/engine.js';

const MODEL = 'test/fixtures/exporters/llama-transformersjs-fp16slim';
const PROMPT = [5, 17, 30, 12, 45, 9];
let models = '';
let chromium: Chromium;
beforeAll(async () => {
  models = await mkdtemp(join(tmpdir(), 'fang-prune-test-'));
  chromium = await startChromium(models);
}, 120_000);
afterAll(async () => {
  await chromium.close();
  await rm(models, { recursive: true, force: true });
});

async function readInNode(folder: string): Promise<Float32Array> {
  const written = await openModelFolder(folder);
  const model = await openLanguageModel(testEngine, written);
  try {
    return await model.createReader().read([Int32Array.from(PROMPT)]);
  } finally {
    await model.release();
    await written.close();
  }
}

const openOnPage = (name: string) =>
  chromium.open({ name, prompt: PROMPT, hasCache: true, hasTokenizer: true, options: {} });

it('opens q4 weights with default settings in transformers.js, without WebGPU', async () => {
  const request = { model: MODEL, dtype: 'q4', blockSize: 16, rounding: 'nearest', report: false } as const;
  await quantize({ ...request, out: join(models, 'codes') });
  const { logits, tokens } = await openOnPage('codes');
  expect(tokens.length).toBeGreaterThan(0);
  // WebAssembly rounds no activations, whatever the accuracy level.
  const out = join(models, 'exact');
  await quantize({ ...request, out, accuracyLevel: 0 });
  expect(logitsGap(Float32Array.from(logits), await readInNode(out))).toBeLessThan(1e-4);
}, 120_000);

it('opens a model with several files of external data', async () => {
  const out = join(models, 'divided');
  await quantize({ model: MODEL, out, dtype: 'fp32', rounding: 'nearest', report: false });
  const whole = await readInNode(out);
  const written = await openModelFolder(out);
  const model = await written.load();
  const file = 'onnx/model.onnx';
  const place = join(out, 'new');
  const layout = { external: { fileBytes: 10_000 } };
  const { files } = await saveModel(model, openFolder(nodePlatform.files, place), file, { layout });
  await written.close();
  expect(files.length).toBeGreaterThan(3);
  const variant = { dtype: 'fp32', file, externalFileCount: files.length - 1 } as const;
  const config = writeDtypeConfig(written.documents['config.json']!, [variant]);
  await writeFile(join(place, 'config.json'), JSON.stringify(config));
  expect(await readdir(join(place, 'onnx'))).toContain('model.onnx_data_2');
  const { logits } = await chromium.open({
    name: 'divided/new',
    prompt: PROMPT,
    hasCache: true,
    hasTokenizer: false,
    options: {},
  });
  expect(logitsGap(Float32Array.from(logits), whole)).toBeLessThan(1e-4);
}, 120_000);
