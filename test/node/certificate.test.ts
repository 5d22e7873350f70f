import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EngineError, NumericalError } from '../../src/errors.js';
import { logitsGap } from '../../src/evaluation/compare-logits.js';
import { withPruneJob } from '../../src/node/open-prune-job.js';
import { prune } from '../../src/node/prune-folder.js';
import { withModelFolder } from '../../src/node/with-model-folder.js';
import { writeResult } from '../../src/node/write-result.js';
import { resolveCalibration, resolveOptions } from '../../src/options.js';
import type { PruneOutcome } from '../../src/prune/job.js';
import { pruneModel } from '../../src/prune.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { buildDecoder, type DecoderShape, HIDDEN, layerNorm, selfAttention } from '../support/small-decoder.js';
import { readTinyLlama, TINY_LLAMA } from '../support/tiny-llama.js';
import { listFiles, useTemporaryFolder } from './temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);
const CALIBRATION = { windowCount: 2, windowLength: 24 };
const quick = { sparsity: 0.3, calibration: CALIBRATION };
const blind = { sparsity: 0.3, method: 'magnitude' };

describe('the certificate', () => {
  it('tells how near the written model is to the masked original', async () => {
    const { certificate, timings } = await prune({ ...quick, model: TINY_LLAMA, out: at('out'), method: 'flap' });
    expect(certificate).toEqual({
      windows: 2,
      tokens: 128,
      from: 'text',
      opened: true,
      gap: expect.any(Number),
      rounding: expect.any(Number),
      tolerance: expect.any(Number),
      passed: true,
    });
    const { gap, rounding, tolerance } = certificate!;
    expect(rounding).toBeGreaterThan(0);
    expect(tolerance).toBe(Math.max(1e-5, 10 * rounding));
    // What rounds otherwise comes to about as much as what was rounded otherwise on purpose.
    expect(gap).toBeLessThan(4 * rounding);
    expect(timings.map(({ stage }) => stage)).toContain('certify');
  }, 240_000);

  it('does without a tokenizer and without calibration, and is left out on request', async () => {
    const model = at('in/lone.onnx');
    await mkdir(at('in'));
    await writeFile(model, readTinyLlama());
    const drawn = await prune({ ...blind, model, out: at('a') });
    expect(drawn.certificate).toMatchObject({ from: 'random' });
    const none = await prune({ ...blind, model, out: at('b'), certify: false });
    expect(none.certificate).toBeUndefined();
  }, 240_000);

  it.each([
    ['another neuron', { keep: (keep: Int32Array) => keep.with(0, keep[0] === 0 ? 1 : 0) }],
    ['a bias that is missing', { bias: (bias: Float64Array) => bias.map((value) => value + 1) }],
  ])(
    'fails the run for %s and leaves nothing',
    async (_, wrong) => {
      const outcome = write((pruned) => {
        const [first, ...others] = pruned.modules.filter(({ module }) => module.kind === 'ffn');
        const keep = 'keep' in wrong ? wrong.keep(first!.keep) : first!.keep;
        const bias = 'bias' in wrong ? wrong.bias(first!.bias!) : first!.bias;
        return { ...pruned, modules: [{ ...first!, keep: keep.slice().sort(), bias }, ...others] };
      });
      await expect(outcome).rejects.toThrow(NumericalError);
      expect(await listFiles(folder())).toEqual([]);
    },
    240_000,
  );

  it('checks runs in several shots, and those that take an FFN out whole', async () => {
    const run = { ...quick, model: TINY_LLAMA, method: 'flap' } as const;
    const shots = await prune({ ...run, out: at('shots'), shots: 2 });
    const blockSparsity = { 1: { ffn: 1 } };
    const gone = await prune({ ...run, out: at('gone'), allocation: 'global', minimumWidth: 0, blockSparsity });
    expect(gone.modules.map(({ unitsAfter }) => unitsAfter)).toContain(0);
    for (const { certificate } of [shots, gone]) expect(certificate!.gap).toBeLessThan(4 * certificate!.rounding);
  }, 240_000);

  it('shortens its windows for a model with few positions', async () => {
    const model = at('in/lone.onnx');
    await mkdir(at('in'));
    const compose: DecoderShape['compose'] = (site, x, { ffn }) => {
      const { g, block, rows } = site;
      const placed = block > 0 ? x : g.op('Add', [x, g.op('Gather', [g.weight([24, HIDDEN]), rows])]);
      const attended = g.op('Add', [placed, selfAttention()(site, layerNorm(g, placed))]);
      return g.op('Add', [attended, ffn(site, layerNorm(g, attended))]);
    };
    await writeFile(model, buildDecoder({ compose }));
    const { certificate } = await prune({ ...blind, model, out: at('out') });
    expect(certificate).toMatchObject({ windows: 2, tokens: 48, from: 'random' });
    // Nor are windows calibrated on that are longer.
    const calibration = { source: { tokens: Int32Array.from({ length: 400 }, (_, at) => at % 40) }, windowCount: 4 };
    const run = { model, out: at('flap'), sparsity: 0.3, method: 'flap' } as const;
    expect((await prune({ ...run, calibration })).calibration).toMatchObject({ windowLength: 24 });
    const long = prune({ ...run, out: at('long'), calibration: { ...calibration, windowLength: 32 } });
    await expect(long).rejects.toThrow(/windowLength is 32, but the model reads at most 24 tokens/);
  }, 240_000);

  it('fails the run for a model that ONNX Runtime does not open, and leaves nothing', async () => {
    const outcome = write((pruned) => {
      const { proto } = pruned.model;
      proto.graph!.node.at(-1)!.opType = 'NoSuchOperator';
      return pruned;
    });
    await expect(outcome).rejects.toThrow(EngineError);
    await expect(outcome).rejects.toThrow(/does not run though the original does/);
    expect(await listFiles(folder())).toEqual([]);
  }, 240_000);

  it('counts what is no number as infinitely far', () => {
    const of = (...values: number[]) => Float32Array.from(values);
    expect(logitsGap(of(0, 1.5), of(0, 2))).toBe(0.25);
    expect(logitsGap(of(0, Number.NaN), of(0, 2))).toBe(Number.POSITIVE_INFINITY);
    expect(logitsGap(of(0), of(0, 2))).toBe(Number.POSITIVE_INFINITY);
  });
});

/** Prunes FFNs, changes what is said about it, and writes the result. */
async function write(change: (outcome: PruneOutcome) => PruneOutcome) {
  const options = resolveOptions({ sparsity: 0.3, method: 'flap', modules: 'ffn' });
  const calibration = resolveCalibration(CALIBRATION);
  return withModelFolder(TINY_LLAMA, {}, (model) =>
    withPruneJob({ folder: model, options, calibration }, async (opened) => {
      const outcome = change(await pruneModel({ ...opened.job, store: storeInMemory }));
      return writeResult(opened, outcome, { model: TINY_LLAMA, sparsity: 0.3, out: at('out'), report: undefined });
    }),
  );
}
