import { createHash } from 'node:crypto';
import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createCalibrationSet } from '../../src/calibration/calibration-set.js';
import { createTokenizer } from '../../src/calibration/tokenizer.js';
import { ModelFormatError, OptionError } from '../../src/errors.js';
import { type ObserveRequest, observe, type PruneRequest, prune, pruneLadder } from '../../src/node.js';
import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import type { TensorHandle } from '../../src/onnx/onnx-model.js';
import { readSafetensors, writeSafetensors } from '../../src/onnx/safetensors.js';
import { bytesHandle, floatsHandle } from '../../src/onnx/tensor-handle.js';
import type { Progress } from '../../src/progress.js';
import { copyShortLlama, SHORT_LLAMA } from '../support/short-llama.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';
import { meanLoss } from '../support/tiny-llama.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

const CALIBRATION = { windowCount: 4, windowLength: 64, generate: false };
const QUICK = { windowCount: 2, windowLength: 24, generate: false };
const observeLlama = (request: Partial<ObserveRequest> = {}) =>
  observe({ model: SHORT_LLAMA, out: at('stats'), calibration: CALIBRATION, ...request });
/** Measures the inputs of every method. */
const ALL = { method: 'o-fang', metric: 'divergence' } as const;
const pruneFrom = (request: Partial<PruneRequest> = {}) =>
  prune({
    model: SHORT_LLAMA,
    sparsity: 0.3,
    statistics: at('stats'),
    certify: false,
    evaluation: false,
    out: at('out'),
    ...request,
  });

/** Stages that run the model on calibration tokens. */
const RUNNING = ['calibrate', 'generate', 'contexts', 'measure', 'backward', 'advance'];

const readModel = (path: string) => readFile(join(path, 'onnx/model.onnx'));

/** Mean loss on the windows of a text, in nats. */
async function lossOf(path: string): Promise<number> {
  const model = await loadModel(bytesSource('model.onnx', await readModel(path)), createMemoryFolder('none'));
  const tokenizer = createTokenizer(
    JSON.parse(await readFile(join(SHORT_LLAMA, 'tokenizer.json'), 'utf8')),
    JSON.parse(await readFile(join(SHORT_LLAMA, 'tokenizer_config.json'), 'utf8')),
  );
  const { windows } = await createCalibrationSet({ windowCount: 4, windowLength: 64, tokenizer });
  return meanLoss(model, windows);
}

describe('saved statistics', () => {
  it('prune by every method without reading tokens, with a lower loss than at random', async () => {
    const seen = await observeLlama(ALL);
    expect(await listFiles(at('stats'))).toEqual(['statistics.json', 'statistics.safetensors']);
    expect(seen).toMatchObject({ sums: 'gram', metric: 'divergence', grouped: true, moduleCount: 4 });
    await prune({
      model: SHORT_LLAMA,
      out: at('random'),
      sparsity: 0.3,
      method: 'random',
      certify: false,
      evaluation: false,
    });
    const [dense, random] = [await lossOf(SHORT_LLAMA), await lossOf(at('random'))];
    for (const method of ['flap', 'obc', 'f-fang', 'o-fang', 'auto']) {
      const report = await pruneFrom({ method, out: at(method) });
      expect(report.timings.filter(({ stage }) => RUNNING.includes(stage))).toEqual([]);
      expect(report.calibration).toEqual(seen.calibration);
      expect(report.modules.some(({ contexts }) => contexts !== undefined)).toBe(method.endsWith('fang'));
      expect(report.sparsity.achieved).toBeCloseTo(0.3, 1);
      const loss = await lossOf(at(method));
      expect(loss).toBeLessThan((dense + random) / 2);
    }
  }, 240_000);

  it('give the same bytes every time and in a ladder, and are named in reports', async () => {
    const file = at('kept/a.json');
    await observeLlama({ out: file, method: 'flap', calibration: QUICK });
    expect(await listFiles(at('kept'))).toEqual(['a.json', 'a.safetensors']);
    await expect(observeLlama({ out: file, method: 'flap', calibration: QUICK, seed: 1 })).rejects.toThrow(
      /a\.json exists/,
    );
    const sums = await readFile(at('kept/a.safetensors'));
    await observeLlama({ out: file, method: 'flap', calibration: QUICK, force: true });
    expect((await readFile(at('kept/a.safetensors'))).equals(sums)).toBe(true);
    const shared = { statistics: file, method: 'flap' };
    const report = await pruneFrom(shared);
    const saved = JSON.parse(await readFile(file, 'utf8'));
    expect(report.statistics).toEqual({ file, sha256: saved.tensors.sha256 });
    expect(report.remarks).toContainEqual(expect.stringContaining(file));
    await pruneFrom({ ...shared, out: at('again') });
    const rungs = {
      ...shared,
      model: SHORT_LLAMA,
      certify: false,
      evaluation: false,
      out: at('ladder'),
      sparsity: [0.1, 0.3],
    };
    await pruneLadder(rungs);
    const written = await readModel(at('out'));
    expect((await readModel(at('again'))).equals(written)).toBe(true);
    expect((await readModel(at('ladder/30'))).equals(written)).toBe(true);
    expect((await readModel(at('ladder/10'))).equals(written)).toBe(false);
  }, 120_000);

  it('allow input repair if their windows are read again', async () => {
    await observeLlama({
      method: 'auto',
      modules: 'ffn',
      calibration: { windowCount: 8, windowLength: 64, generate: false },
    });
    const shared = { method: 'auto', modules: 'ffn', evaluation: false, certify: false } as const;
    const plain = await pruneFrom({ ...shared, out: at('plain') });
    const repaired = await pruneFrom({ ...shared, out: at('repaired'), calibration: { windowCount: 8 } });
    const leftOut = /input repair was left out.*calibration\.windowCount/;
    expect(plain.remarks).toContainEqual(expect.stringMatching(leftOut));
    expect(repaired.remarks).not.toContainEqual(expect.stringMatching(leftOut));
    expect(repaired.settings).toMatchObject({ inputSteps: 3, calibration: { windowCount: 8 } });
    expect(plain.settings).not.toHaveProperty('inputSteps');
    // The removed neurons do not depend on input repair.
    expect(repaired.modules.map(({ keep }) => keep)).toEqual(plain.modules.map(({ keep }) => keep));
    const errorsOf = ({ modules }: typeof plain) => modules.flatMap(({ error }) => (error ? [error.after] : []));
    const before = errorsOf(plain);
    expect(before.length).toBeGreaterThan(0);
    for (const [index, after] of errorsOf(repaired).entries()) expect(after).toBeLessThan(before[index]!);
    // Fewer windows repair less, or otherwise; the same call gives the same bytes.
    await pruneFrom({ ...shared, out: at('fewer'), calibration: { windowCount: 2 } });
    await pruneFrom({ ...shared, out: at('again'), calibration: { windowCount: 8 } });
    const written = await readModel(at('repaired'));
    expect((await readModel(at('again'))).equals(written)).toBe(true);
    expect((await readModel(at('fewer'))).equals(written)).toBe(false);
    expect((await readModel(at('plain'))).equals(written)).toBe(false);
  }, 120_000);

  it('are refused in runs that they do not fit, with options to observe with', async () => {
    await observeLlama({ method: 'f-fang', modules: 'ffn', calibration: QUICK });
    const refused = (request: Partial<PruneRequest>) => pruneFrom({ modules: 'ffn', method: 'f-fang', ...request });
    const cases: [Partial<PruneRequest>, RegExp, option?: string][] = [
      [{ method: 'obc' }, /statistics\.json has no Gram matrices.*observe with method obc/, 'method'],
      [{ method: 'flap', metric: 'loss' }, /measured by metric output.*with metric loss/, 'metric'],
      [{ modules: 'all' }, /lacks block 0 attention.*with modules all/, 'modules'],
      [{ seed: 7 }, /made with seed 0, and the run has seed 7/, 'seed'],
      [{ grouping: { contextCount: 5 } }, /grouping\.contextCount 7, and the run has 5/, 'grouping.contextCount'],
      [{ weighting: { temperature: { absolute: 9 } } }, /weighting\.temperature .*absolute/],
      [{ shots: 2 }, /use one shot/],
      [{ calibration: { windowCount: 2 } }, /calibration\.windowCount has no effect .* method f-fang/],
      [{ calibration: { windowLength: 32 } }, /calibration\.windowLength has no effect/],
      [{ inputSteps: 1 }, /inputSteps reads tokens.* set calibration\.windowCount too/, 'inputSteps'],
      [{ statistics: at('nowhere') }, /no file .*nowhere.statistics\.json/],
    ];
    for (const [request, message, option] of cases) {
      const error = await refused(request).catch((caught) => caught);
      expect(error).toBeInstanceOf(OptionError);
      // The command line replaces it by its flag.
      if (option !== undefined) expect(error.option).toBe(option);
      expect(error.message).toMatch(message);
    }
    await observeLlama({ method: 'flap', modules: 'ffn', calibration: QUICK, out: at('plain') });
    await expect(refused({ statistics: at('plain') })).rejects.toThrow(
      /plain.statistics\.json has no function groups.*observe with method f-fang and grouping/,
    );
    await expect(refused({ statistics: at('plain'), method: 'flap', grouping: true })).rejects.toThrow(
      /observe with method flap and grouping/,
    );
    const other = await copyShortLlama(at('other'), (proto) => {
      proto.producerName = 'another';
    });
    const { model } = JSON.parse(await readFile(at('stats/statistics.json'), 'utf8'));
    await expect(refused({ model: other })).rejects.toThrow(model.sha256);
    await expect(observeLlama({ method: 'random' })).rejects.toThrow(/reads no token/);
    expect(await listFiles(folder())).not.toContainEqual(expect.stringMatching(/^out|partial/));
  }, 120_000);

  it('are refused when damaged, naming file and tensor', async () => {
    await observeLlama({ method: 'flap', calibration: QUICK });
    const file = at('stats/statistics.safetensors');
    const json = at('stats/statistics.json');
    const whole = { tensors: await readFile(file), json: JSON.parse(await readFile(json, 'utf8')) };
    const refuses = async (message: RegExp) => {
      const error = await pruneFrom({ method: 'flap' }).catch((caught) => caught);
      expect(error).toBeInstanceOf(ModelFormatError);
      expect(error.message).toMatch(message);
    };
    const source = bytesSource('a', whole.tensors);
    /** Rewrites tensors and their hash. */
    const change = async (edit: (tensors: Map<string, TensorHandle>) => void) => {
      const tensors = new Map(await readSafetensors(source));
      edit(tensors);
      const chunks: Uint8Array[] = [];
      await writeSafetensors({ write: async (bytes) => void chunks.push(bytes.slice()) }, tensors);
      const bytes = Buffer.concat(chunks);
      await writeFile(file, bytes);
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      await writeFile(json, JSON.stringify({ ...whole.json, tensors: { ...whole.json.tensors, sha256 } }));
    };
    const name = 'block.1.ffn.3.mean';
    const doubles = (values: number[]) =>
      floatsHandle({ dataType: 11, dims: [values.length] }, Float64Array.from(values));
    await change((tensors) => tensors.delete(name));
    await refuses(/statistics\.safetensors: tensor "block\.1\.ffn\.3\.mean" is missing/);
    await change((tensors) => tensors.set(name, doubles([1, 2])));
    await refuses(/"block\.1\.ffn\.3\.mean" is double\[2\], expected double\[256\]/);
    await change((tensors) => tensors.set(name, doubles(Array(256).fill(Number.NaN))));
    await refuses(/"block\.1\.ffn\.3\.mean" contains NaN/);
    await change((tensors) =>
      tensors.set('windows', bytesHandle({ dataType: 6, dims: [2, 24] }, new Uint8Array(192).fill(127))),
    );
    await refuses(/"windows" contains 2139062143, expected 0 to 2047/);
    await change(() => undefined);
    await writeFile(json, JSON.stringify({ ...whole.json, modules: [{ index: 3, block: 0, kind: 'ffn' }] }));
    await refuses(/statistics\.json: modules\[0\] \(block 0 ffn\) is not a module/);
    await writeFile(json, JSON.stringify(whole.json));
    await writeFile(file, Buffer.concat([whole.tensors.subarray(0, -1), Buffer.from([1])]));
    await refuses(/has the SHA-256/);
    await truncate(file, 4000);
    await refuses(/statistics\.safetensors: tensor ".*" ends at byte/);
  }, 120_000);

  it('leave no files when observing is aborted', async () => {
    const abort = new AbortController();
    const stages = new Set<string>();
    const onProgress = ({ stage, done }: Progress) => {
      stages.add(stage);
      if (stage === 'measure' && done > 1) abort.abort();
    };
    const request = { method: 'flap', calibration: QUICK, onProgress, signal: abort.signal };
    await expect(observeLlama(request)).rejects.toThrow('abort');
    expect([...stages]).toEqual(expect.arrayContaining(['load', 'calibrate', 'measure']));
    expect(await listFiles(folder())).toEqual([]);
  });
});
