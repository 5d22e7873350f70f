import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { create, fromBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema, StringStringEntryProtoSchema, TensorProto_DataLocation } from 'onnx-buf';
import { UnsupportedModelError } from '../../src/errors.js';
import {
  applyRecipe,
  benchmark,
  describe as describeFolder,
  evaluateModels,
  generateText,
  logLikelihoods,
  observe,
  type PruneRequest,
  perplexity,
  prune,
  quantize,
  trimVocabulary,
} from '../../src/node.js';
import type { PruneReport } from '../../src/report/report-schema.js';
import { SHORT_LLAMA } from '../support/short-llama.js';
import { splitShortLlama, toBytes, writeSplitLlama } from '../support/split-llama.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);
const TEXT = `${SHORT_LLAMA}/text/french.txt`;
const WINDOWS = { windowCount: 2, windowLength: 32 };
const DECODER = 'onnx/decoder_model_merged.onnx';

const run = (request: Partial<PruneRequest> = {}) =>
  prune({ model: at('in'), out: at('out'), sparsity: 0.3, calibration: WINDOWS, evaluation: false, ...request });

const decisionsOf = ({ modules, sparsity }: PruneReport) => ({
  sparsity,
  widths: modules.map(({ block, kind, unitsAfter }) => ({ block, kind, unitsAfter })),
});

/** Moves the embedding model out of the folder, and returns its new path. */
async function moveEmbeddings(): Promise<string> {
  await rename(at('in/onnx/embed_tokens.onnx'), at('apart.onnx'));
  return at('apart.onnx');
}

/** Moves the weights of both models into one file. */
async function shareWeightsFile(): Promise<void> {
  const { decoder, embedding } = splitShortLlama();
  const parts: Uint8Array[] = [];
  let offset = 0;
  for (const tensor of [decoder, embedding].flatMap(({ graph }) => graph!.initializer)) {
    const { rawData } = tensor;
    if (rawData.length < 1024) continue;
    const entries = Object.entries({ location: 'weights.bin', offset: `${offset}`, length: `${rawData.length}` });
    tensor.externalData = entries.map(([key, value]) => create(StringStringEntryProtoSchema, { key, value }));
    tensor.dataLocation = TensorProto_DataLocation.EXTERNAL;
    tensor.rawData = new Uint8Array();
    parts.push(rawData);
    offset += rawData.length;
  }
  const models = { [DECODER]: toBytes(decoder), 'onnx/embed_tokens.onnx': toBytes(embedding) };
  await writeSplitLlama(at('in'), { ...models, 'onnx/weights.bin': Buffer.concat(parts) });
}

describe('a decoder that reads embeddings', () => {
  it.each(['auto', 'o-fang'])(
    'is pruned by %s like the undivided model',
    async (method) => {
      await writeSplitLlama(at('in'));
      const generate = method === 'auto' ? { generate: true } : {};
      const calibration = { ...WINDOWS, ...generate };
      const report = await run({ method, calibration });
      const whole = await prune({
        model: SHORT_LLAMA,
        out: at('whole'),
        sparsity: 0.3,
        calibration,
        method,
        evaluation: false,
      });
      expect(decisionsOf(report).widths).toEqual(decisionsOf(whole).widths);
      expect(report.certificate).toMatchObject({ passed: true });
      expect(report.calibration!.tokensSha256).toBe(whole.calibration!.tokensSha256);
      const perplexities = await evaluateModels({ models: [at('out'), at('whole')], texts: [TEXT], ...WINDOWS });
      const [split, undivided] = perplexities.map((measured) => measured.perplexity[0]!.perplexity);
      expect(split).toBeCloseTo(undivided!, 5);
    },
    240_000,
  );

  it('is written without embeddings, next to the unchanged embedding model', async () => {
    await writeSplitLlama(at('in'), { 'onnx/vision_encoder.onnx': 'v', 'onnx/decoder_model_merged_q4.onnx': 'q' });
    const before = await readFile(at('in/onnx/embed_tokens.onnx'));
    const { parameters, bytes } = await run({ method: 'magnitude', calibration: undefined });
    const files = await listFiles(at('out'));
    expect(files).toEqual(expect.arrayContaining([DECODER, 'onnx/embed_tokens.onnx', 'onnx/vision_encoder.onnx']));
    expect(files).not.toContain('onnx/decoder_model_merged_q4.onnx');
    expect(Buffer.compare(await readFile(at('out/onnx/embed_tokens.onnx')), before)).toBe(0);
    const { graph } = fromBinary(ModelProtoSchema, await readFile(at(`out/${DECODER}`)));
    const { decoder } = splitShortLlama();
    expect(graph!.input.map(({ name }) => name)).toEqual(decoder.graph!.input.map(({ name }) => name));
    expect(graph!.initializer.some(({ name }) => name.startsWith('embedding/'))).toBe(false);
    expect(bytes.before).toBe((await readFile(at(`in/${DECODER}`))).byteLength);
    const counted = decoder.graph!.initializer.filter(({ dataType }) => dataType === 1);
    const sizes = counted.map(({ dims }) => dims.reduce((product, dim) => product * Number(dim), 1));
    expect(parameters.before).toBe(sizes.reduce((sum, size) => sum + size, 0));
  }, 240_000);

  it('is written in several dtypes, which all read float32 inputs_embeds', async () => {
    await writeSplitLlama(at('in'));
    const written = await quantize({
      model: at('in'),
      out: at('out'),
      dtype: ['fp32', 'fp16'],
      rounding: 'nearest',
      evaluation: false,
    });
    expect(written.dtypes!.map(({ certificate }) => certificate!.passed)).toEqual([true, true]);
    for (const { file } of written.dtypes!) {
      const { graph } = fromBinary(ModelProtoSchema, await readFile(at(`out/${file}`)));
      const given = graph!.input.find(({ name }) => name === 'inputs_embeds')!.type!.value;
      expect(given.case === 'tensorType' && given.value.elemType).toBe(1);
    }
    const config = JSON.parse(await readFile(at('out/config.json'), 'utf8'));
    const dtype = { embed_tokens: 'fp32', decoder_model_merged: 'fp32' };
    expect(config['transformers.js_config']).toMatchObject({ dtype });
  }, 120_000);

  it('gets a file of its own for its weights if the embedding model reads the old one', async () => {
    await shareWeightsFile();
    const { certificate } = await run({ method: 'magnitude', calibration: undefined });
    expect(certificate).toMatchObject({ passed: true });
    await trimVocabulary({ model: at('out'), out: at('trimmed'), vocabularySize: 1000 });
    await quantize({
      model: at('in'),
      out: at('rounded'),
      dtype: ['q8', 'q4'],
      rounding: 'nearest',
      evaluation: false,
    });
    for (const model of ['out', 'trimmed', 'rounded'])
      expect((await perplexity({ model: at(model), text: TEXT, ...WINDOWS })).perplexity).toBeGreaterThan(1);
    const weights = await readFile(at('in/onnx/weights.bin'));
    for (const model of ['out', 'rounded'])
      expect(Buffer.compare(await readFile(at(`${model}/onnx/weights.bin`)), weights)).toBe(0);
  }, 240_000);

  it('is described without its embedding model', async () => {
    await writeSplitLlama(at('in'));
    const { parameters, format, embeddings } = await describeFolder({ model: at('in') });
    const whole = await describeFolder({ model: SHORT_LLAMA });
    expect(parameters.prunable).toBe(whole.parameters.prunable);
    expect(format.bytes).toBeLessThanOrEqual(whole.format.bytes);
    expect(embeddings).toBe(at('in/onnx/embed_tokens.onnx'));
    expect(whole).not.toHaveProperty('embeddings');
  }, 240_000);

  it('has the perplexity, generated text and likelihoods of the undivided model', async () => {
    await writeSplitLlama(at('in'));
    const [split, whole] = await Promise.all(
      [at('in'), SHORT_LLAMA].map(async (model) => ({
        perplexity: await perplexity({ model, text: TEXT, ...WINDOWS }),
        text: await generateText({ model, prompt: 'Once upon', newTokens: 8 }),
        likelihoods: await logLikelihoods({ model, pairs: [{ context: 'Once', continuation: ' upon a time' }] }),
      })),
    );
    expect(split).toEqual(whole);
  }, 240_000);

  it('is refused without its embedding model, and accepts one from another folder', async () => {
    await writeSplitLlama(at('in'));
    const embeddings = await moveEmbeddings();
    const calls = [
      () => run({ method: 'magnitude', calibration: undefined }),
      () => describeFolder({ model: at('in') }),
      () => perplexity({ model: at('in'), text: TEXT, ...WINDOWS }),
      () => observe({ model: at('in'), out: at('statistics'), calibration: WINDOWS }),
    ];
    for (const call of calls) {
      await expect(call()).rejects.toThrow(UnsupportedModelError);
      await expect(call()).rejects.toThrow(
        /reads inputs_embeds.*there is no embedding model next to it.*--embeddings FILE/,
      );
    }
    const report = await run({ method: 'flap', embeddings, evaluation: { texts: [TEXT], ...WINDOWS } });
    expect(report.certificate).toMatchObject({ passed: true });
    expect(report.metrics![0]!.pruned).toBeGreaterThan(1);
    expect(await listFiles(at('out'))).not.toContain('onnx/embed_tokens.onnx');
    const text = await generateText({ model: at('out'), prompt: 'Once', newTokens: 2, embeddings });
    expect(text.text).not.toBe('');
    const timed = await benchmark({ models: [at('out')], promptLength: 4, newTokens: 2, rounds: 2, embeddings });
    expect(timed.models[0]!.decodeTokensPerSecond.median).toBeGreaterThan(0);
  }, 240_000);

  it('is refused with statistics and recipes made with another embedding model', async () => {
    await writeSplitLlama(at('in'));
    const embeddings = await moveEmbeddings();
    await observe({ model: at('in'), out: at('statistics'), method: 'flap', calibration: WINDOWS, embeddings });
    const statistics = { method: 'flap', calibration: undefined, statistics: at('statistics'), embeddings } as const;
    await run({ ...statistics, recipe: at('recipe') });
    const applied = { model: at('in'), recipe: at('recipe'), out: at('again') };
    await applyRecipe({ ...applied, embeddings });
    expect(Buffer.compare(await readFile(at(`again/${DECODER}`)), await readFile(at(`out/${DECODER}`)))).toBe(0);
    const { embedding } = splitShortLlama();
    embedding.graph!.initializer[0]!.rawData.fill(0, 0, 4);
    await writeFile(at('other.onnx'), toBytes(embedding));
    const other = { embeddings: at('other.onnx'), force: true };
    await expect(run({ ...statistics, ...other })).rejects.toThrow(/another model/);
    await expect(applyRecipe({ ...applied, ...other })).rejects.toThrow(/another model/);
  }, 240_000);
});
