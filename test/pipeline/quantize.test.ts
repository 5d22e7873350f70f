import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema } from 'onnx-buf';
import { OptionError } from '../../src/errors.js';
import { prune, quantize } from '../../src/node.js';
import { intAttribute } from '../../src/onnx/attributes.js';
import { DTYPES, type DtypeName } from '../../src/quantisation/dtypes.js';
import { mergedDecoder } from '../support/merged-decoder.js';
import { copyShortLlama } from '../support/short-llama.js';
import { buildDecoder, plainFfn, selfAttention, unprunable, VOCABULARY } from '../support/small-decoder.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);
/** One dtype of every form; the others differ in a number. */
const names = ['fp16', 'q8', 'uint8', 'q4f16'] as const satisfies readonly DtypeName[];
const readJson = async (path: string) => JSON.parse(await readFile(at(path), 'utf8'));

describe('quantize', () => {
  it('writes every dtype under its name, equal to its dequantised weights', async () => {
    const model = await copyShortLlama(at('in'));
    const { dtypes = [] } = await quantize({
      model,
      out: at('out'),
      dtype: names,
      rounding: 'nearest',
      evaluation: false,
    });
    expect(dtypes.map(({ dtype }) => dtype)).toEqual(names);
    for (const { dtype, file, bytes, certificate, parts } of dtypes) {
      expect(file).toBe(`onnx/model${DTYPES[dtype as DtypeName].suffix}.onnx`);
      expect((await stat(at(`out/${file}`))).size).toBe(bytes);
      expect(certificate?.passed).toBe(true);
      expect(Object.values(parts).reduce((sum, part) => sum + part)).toBeLessThan(bytes);
      const { graph } = fromBinary(ModelProtoSchema, await readFile(at(`out/${file}`)));
      // The WebAssembly of transformers.js has a kernel of it only on WebGPU.
      expect(graph!.node.some(({ opType }) => opType === 'GatherBlockQuantized')).toBe(false);
      if (DTYPES[dtype as DtypeName].floats === 'float32' && DTYPES[dtype as DtypeName].linears.kind !== 'float')
        expect(certificate!.gapInFloat32).toBeLessThan(1e-5);
      // ONNX Runtime has fast kernels only with activations in int8.
      for (const node of graph!.node.filter(({ opType }) => opType === 'MatMulNBits'))
        expect(intAttribute(node, 'accuracy_level', 0)).toBe(DTYPES[dtype as DtypeName].floats === 'float32' ? 4 : 0);
    }
    expect((await readJson('out/config.json'))['transformers.js_config']).toEqual({
      dtype: 'fp16',
      kv_cache_dtype: { fp16: 'float16', q4f16: 'float16' },
    });
  }, 240_000);

  it('has no remarks on parts that cannot be pruned, since it rounds their weights too', async () => {
    const model = 'test/fixtures/exporters/lfm2-genai018-fp32';
    const { remarks, dtypes } = await quantize({
      model,
      out: at('out'),
      dtype: 'q8',
      rounding: 'nearest',
      certify: false,
      evaluation: false,
    });
    expect(remarks).toEqual([]);
    const { graph } = fromBinary(ModelProtoSchema, await readFile(at(`out/${dtypes![0]!.file}`)));
    const rounded = graph!.node.filter(({ opType }) => opType === 'MatMulNBits').map(({ name }) => name);
    expect(rounded).toContainEqual(expect.stringMatching(/conv/));
  });

  it('rounds a model in which nothing can be pruned', async () => {
    const bytes = buildDecoder({ attention: unprunable(selfAttention()), ffn: unprunable(plainFfn) });
    await mkdir(at('in'));
    await writeFile(at('in/model.onnx'), bytes);
    const source = { tokens: [Int32Array.from({ length: 128 }, (_, token) => (7 * token) % VOCABULARY)] };
    const calibration = { source, windowCount: 4, windowLength: 32, generate: false } as const;
    await expect(
      prune({ model: at('in'), out: at('pruned'), sparsity: 0.3, method: 'flap', calibration }),
    ).rejects.toThrow('nothing in the model can be pruned');
    const { dtypes } = await quantize({ model: at('in'), out: at('out'), dtype: ['q8', 'q4'], calibration });
    expect(dtypes!.map(({ certificate }) => certificate?.passed)).toEqual([true, true]);
    const { graph } = fromBinary(ModelProtoSchema, await readFile(at(`out/${dtypes![0]!.file}`)));
    expect(graph!.node.map(({ opType }) => opType)).toContain('MatMulNBits');
  });

  it('has a lower divergence with calibrated rounding than with the nearest', async () => {
    const model = await copyShortLlama(at('in'));
    const calibration = { windowCount: 4, windowLength: 128, generate: false };
    const shared = {
      model,
      out: at('out'),
      dtype: 'q4',
      calibration,
      certify: false,
      evaluation: false,
    } as const;
    const { dtypes = [], settings } = await quantize(shared);
    const { rounding, divergence } = dtypes[0]!;
    expect(divergence).toMatchObject({ windowCount: 2, pruning: 0 });
    expect(divergence!.quantising).toBeGreaterThan(0);
    expect(divergence!.quantising).toBeLessThan(divergence!.nearest!);
    expect(rounding!.learned + rounding!.nearest).toBe(14);
    expect(rounding!.learned).toBeGreaterThan(rounding!.nearest);
    expect(rounding!.costRatio).toBeLessThan(0.9);
    expect(settings).toMatchObject({ dtype: ['q4'], rounding: 'calibrated', blockSize: 32 });
  }, 240_000);

  it('writes a folder per dtype for genai, as one result that is found and replaced', async () => {
    const model = 'test/fixtures/exporters/llama-genai018-fp32';
    const request = { model, out: at('out'), dtype: ['q4', 'fp16'], rounding: 'nearest', evaluation: false } as const;
    const first = await quantize(request);
    expect(first.out).toBe(at('out/q4'));
    expect(first.remarks).toContain('each dtype has a folder of its own: q4, fp16');
    const { out: _, ...counted } = request;
    const { dtypes, bytes } = await quantize({ ...counted, dryRun: true });
    expect(dtypes!.map(({ dtype }) => dtype)).toEqual(['q4', 'fp16']);
    expect(dtypes![0]!.bytes).toBe(first.dtypes![0]!.bytes);
    expect(bytes).toEqual(first.bytes);
    expect((await readdir(at('out'))).sort()).toEqual(['fang-prune-files.json', 'fp16', 'q4']);
    expect(await readJson('out/fp16/genai_config.json')).toEqual(await readJson('out/q4/genai_config.json'));
    expect(await quantize(request)).toMatchObject({ createdAt: first.createdAt, out: at('out/q4') });
    const again = await quantize({ ...request, force: true });
    expect(again.createdAt).not.toBe(first.createdAt);
  });

  it.each(['q2', 'q4f16', 'bnb4', 'uint8'] as const)(
    'writes both branches of a merged decoder in %s, and reads them again',
    async (dtype) => {
      await mkdir(at('in/onnx'), { recursive: true });
      await writeFile(at('in/onnx/decoder_model_merged.onnx'), mergedDecoder());
      await writeFile(at('in/config.json'), '{}');
      const blockSize = dtype === 'uint8' ? undefined : 16;
      const request = { dtype, rounding: 'nearest', blockSize, evaluation: false } as const;
      const { dtypes } = await quantize({ model: at('in'), out: at('out'), ...request });
      const file = `onnx/model${DTYPES[dtype].suffix}.onnx`;
      expect(dtypes![0]).toMatchObject({ file, certificate: { opened: true, passed: true } });
      const { graph } = fromBinary(ModelProtoSchema, await readFile(at(`out/${file}`)));
      const [choice] = graph!.node;
      expect(choice!.opType).toBe('If');
      const coded = dtype === 'bnb4' ? 'MatMulBnb4' : dtype === 'uint8' ? 'MatMulInteger' : 'MatMulNBits';
      for (const { g } of choice!.attribute)
        expect(g!.node.filter(({ opType }) => opType === coded).length).toBeGreaterThan(5);
      // Both branches are read as codes again.
      const again = {
        sparsity: 0.3,
        method: 'magnitude',
        modules: 'ffn',
        rounding: 'nearest',
        widthMultiple: 1,
        evaluation: false,
      } as const;
      const pruned = await prune({ model: at('out'), out: at('pruned'), ...again });
      expect(pruned.certificate).toMatchObject({ opened: true, passed: true });
    },
  );

  it.each([
    [{ dtype: 'q5' }, /^dtype is "q5"; expected one of fp32, .* \(did you mean "q8"\?\)|did you mean "q4"/],
    [{ dtype: ['q4', 'q4'] }, /^dtype names q4 twice/],
    [{ dtype: 'q4', blockSize: 48 }, /^blockSize is 48; expected one of 16, 32, 64, 128, 256/],
    [
      { dtype: 'fp16', blockSize: 64 },
      /^blockSize has no effect in this run: it applies only to dtype q8, q4, q4f16, bnb4, q2, q2f16/,
    ],
    [
      { dtype: ['q8', 'bnb4', 'int8'], symmetric: true },
      /^symmetric has no effect in this run: it applies only to dtype q4, q4f16, q2, q2f16;/,
    ],
    [{ dtype: 'q4', layout: 'genai' }, /^layout is "genai", which needs genai_config.json/],
    [{}, /^dtype is missing/],
  ])('refuses %j', async (given, message) => {
    const model = await copyShortLlama(at('in'));
    const asked = quantize({ model, out: at('out'), ...given } as never);
    await expect(asked).rejects.toThrow(OptionError);
    await expect(asked).rejects.toThrow(message);
  });
});

describe('prune with a dtype', () => {
  it('keeps widths at multiples of blockSize, and quantises the result', async () => {
    const model = await copyShortLlama(at('in'));
    const report = await prune({
      model,
      out: at('out'),
      sparsity: 0.3,
      method: 'magnitude',
      modules: 'ffn',
      dtype: 'q4',
      rounding: 'nearest',
      certify: false,
      evaluation: false,
    });
    expect(report.modules.filter(({ kind }) => kind === 'ffn').every(({ unitsAfter }) => unitsAfter % 32 === 0)).toBe(
      true,
    );
    expect(report.dtypes!.map(({ file }) => file)).toEqual(['onnx/model_q4.onnx']);
    expect((await readJson('out/config.json'))['transformers.js_config']).toEqual({ dtype: 'q4' });
  }, 240_000);

  it('quantises widths that are no multiples of blockSize', async () => {
    const model = await copyShortLlama(at('in'));
    const { modules, dtypes } = await prune({
      model,
      out: at('out'),
      sparsity: 0.3,
      method: 'magnitude',
      modules: 'ffn',
      widthMultiple: 1,
      dtype: 'q4',
      rounding: 'nearest',
      blockSize: 128,
      evaluation: false,
    });
    expect(modules.some(({ kind, unitsAfter }) => kind === 'ffn' && unitsAfter % 128 !== 0)).toBe(true);
    expect(dtypes![0]!.certificate!.gapInFloat32).toBeLessThan(1e-5);
  }, 240_000);
});
