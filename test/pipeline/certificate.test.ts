import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EngineError, NumericalError } from '../../src/errors.js';
import { logitsGap } from '../../src/evaluation/compare-logits.js';
import { nodePlatform } from '../../src/node/node-platform.js';
import { prune, STAGES, type Stages } from '../../src/node.js';
import { floatsHandle } from '../../src/onnx/tensor-handle.js';
import { runPrune } from '../../src/pipeline/run-prune.js';
import type { Progress } from '../../src/progress.js';
import type { PruneOutcome } from '../../src/prune/job.js';
import { linearBiasName } from '../../src/removal/repair-linear.js';
import type { Engine, Tensor } from '../../src/runtime/engine.js';
import { testEngine } from '../support/engine.js';
import { addedBias } from '../support/masked.js';
import { readShortLlama, SHORT_LLAMA } from '../support/short-llama.js';
import { buildDecoder, type DecoderShape, HIDDEN, layerNorm, selfAttention } from '../support/small-decoder.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);
const CALIBRATION = { windowCount: 2, windowLength: 24 };
const quick = { sparsity: 0.3, calibration: CALIBRATION, evaluation: false } as const;
const withoutTokens = { sparsity: 0.3, method: 'magnitude', evaluation: false } as const;

describe('the certificate', () => {
  it('reports the gap between the written model and the masked original', async () => {
    const { certificate, timings } = await prune({ ...quick, model: SHORT_LLAMA, out: at('out'), method: 'flap' });
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
    // The gap is about as large as `rounding`, which is the gap of a model rounded differently on purpose.
    expect(gap).toBeLessThan(4 * rounding);
    expect(timings.map(({ stage }) => stage)).toContain('certify');
  }, 240_000);

  it('stores the masked original next to the output, and not in temporary files', async () => {
    const createScratch = () => Promise.reject(new Error('a scratch file in the temporary folder'));
    const request = { ...withoutTokens, model: SHORT_LLAMA, out: at('out'), report: false } as const;
    const { certificate } = await runPrune({ ...nodePlatform, createScratch }, request);
    expect(certificate).toMatchObject({ passed: true });
  });

  it('needs neither tokenizer nor calibration, and is omitted if certify is false', async () => {
    const model = at('in/lone.onnx');
    await mkdir(at('in'));
    await writeFile(model, readShortLlama());
    const drawn = await prune({ ...withoutTokens, model, out: at('a') });
    expect(drawn.certificate).toMatchObject({ from: 'random' });
    const none = await prune({ ...withoutTokens, model, out: at('b'), certify: false });
    expect(none.certificate).toBeUndefined();
  }, 240_000);

  it('compares the median token of models with experts, since rounding may change the routing', async () => {
    const calibration = { windowCount: 2, windowLength: 32 };
    const given = { method: 'flap', modules: 'experts', sparsity: 0.25, evaluation: false, calibration } as const;
    const report = await prune({ ...given, model: 'examples/models/tiny-moe', out: at('experts') });
    expect(report.certificate).toMatchObject({ passed: true });
    expect(report.remarks).toContainEqual(expect.stringMatching(/compares the median token/));
  });

  it.each([
    ['load', undefined, /^written, but not checked: .*allocate/],
    ['loadFile', { opened: false, passed: true }, /^checked block by block, .* whole: .*allocate/],
  ] as const)(
    'keeps the result if memory does not suffice for the check (%s)',
    async (call, expected, remark) => {
      let isShort = false;
      const engine: Engine = {
        ...testEngine,
        async [call](...given: never[]) {
          if (isShort) throw new EngineError('Failed to allocate memory for requested buffer of size 1');
          return (testEngine[call] as (...given: never[]) => ReturnType<Engine['load']>)(...given);
        },
      };
      const onProgress = ({ stage }: Progress) => {
        isShort = stage === 'certify';
      };
      const given = { ...withoutTokens, model: SHORT_LLAMA, engine, onProgress } as const;
      const report = await prune({ ...given, out: at('kept') });
      expect(report.certificate).toEqual(expected && expect.objectContaining(expected));
      expect(report.remarks).toContainEqual(expect.stringMatching(remark));
      expect((await listFiles(at('kept'))).some((name) => name.endsWith('.onnx'))).toBe(true);
    },
    240_000,
  );

  it.each([
    ['another neuron', (keep: Int32Array) => keep.with(0, keep[0] === 0 ? 1 : 0), 0],
    ['another bias', (keep: Int32Array) => keep, 1],
  ])(
    'fails the run for %s, and leaves no files',
    async (_, keepOther, added) => {
      const outcome = write(async (pruned) => {
        const [first, ...others] = pruned.modules.filter(({ module }) => module.kind === 'ffn');
        const bias = await addedBias(pruned, first!);
        const dims = [bias.length];
        const other = floatsHandle(
          { dataType: 1, dims },
          bias.map((value) => value + added),
        );
        const changed = new Map(pruned.changed).set(linearBiasName(pruned.model, first!.module.output), other);
        return { ...pruned, changed, modules: [{ ...first!, keep: keepOther(first!.keep).sort() }, ...others] };
      });
      await expect(outcome).rejects.toThrow(NumericalError);
      expect(await listFiles(folder())).toEqual([]);
    },
    240_000,
  );

  it('checks runs in several shots, and runs that remove an entire FFN', async () => {
    const run = { ...quick, model: SHORT_LLAMA, method: 'flap' } as const;
    const shots = await prune({ ...run, out: at('shots'), shots: 2 });
    const blockSparsity = { 1: { ffn: 1 } };
    const withoutFfn = await prune({ ...run, out: at('gone'), allocation: 'global', minimumWidth: 0, blockSparsity });
    expect(withoutFfn.modules.map(({ unitsAfter }) => unitsAfter)).toContain(0);
    for (const { certificate } of [shots, withoutFfn]) expect(certificate!.gap).toBeLessThan(4 * certificate!.rounding);
  }, 240_000);

  it('shortens windows for a model with few positions', async () => {
    const model = at('in/lone.onnx');
    await mkdir(at('in'));
    const compose: DecoderShape['compose'] = (site, x, { ffn }) => {
      const { g, block, rows } = site;
      const placed = block > 0 ? x : g.op('Add', [x, g.op('Gather', [g.weight([24, HIDDEN]), rows])]);
      const attended = g.op('Add', [placed, selfAttention()(site, layerNorm(g, placed))]);
      return g.op('Add', [attended, ffn(site, layerNorm(g, attended))]);
    };
    await writeFile(model, buildDecoder({ compose }));
    const { certificate } = await prune({ ...withoutTokens, model, out: at('out') });
    expect(certificate).toMatchObject({ windows: 2, tokens: 48, from: 'random' });
    // Calibration windows are shortened too.
    const calibration = { source: { tokens: Int32Array.from({ length: 400 }, (_, at) => at % 40) }, windowCount: 4 };
    const run = { model, out: at('flap'), sparsity: 0.3, method: 'flap', evaluation: false } as const;
    expect((await prune({ ...run, calibration })).calibration).toMatchObject({ windowLength: 24 });
    const long = prune({ ...run, out: at('long'), calibration: { ...calibration, windowLength: 32 } });
    await expect(long).rejects.toThrow(/windowLength is 32, but the model reads at most 24 tokens/);
  }, 240_000);

  it('fails the run if ONNX Runtime does not open the model, and leaves no files', async () => {
    const outcome = write((pruned) => {
      const { proto } = pruned.model;
      proto.graph!.node.at(-1)!.opType = 'NoSuchOperator';
      return pruned;
    });
    await expect(outcome).rejects.toThrow(EngineError);
    await expect(outcome).rejects.toThrow(/does not run though the original does/);
    expect(await listFiles(folder())).toEqual([]);
  }, 240_000);

  it('names the change of a model that changes before it is compared', async () => {
    const model = at('in/lone.onnx');
    await mkdir(at('in'));
    const bytes = readShortLlama();
    await writeFile(model, bytes);
    const inverted = bytes.map((byte, place) => (place < bytes.length / 2 ? byte : ~byte));
    const certify: Stages['certify'] = {
      ...STAGES.certify,
      async run(...given) {
        await writeFile(model, inverted);
        return STAGES.certify.run(...given);
      },
    };
    const run = prune({ ...withoutTokens, model, out: at('out'), stages: { certify } });
    await expect(run).rejects.toThrow(/lone\.onnx changed while it was in use/);
  });

  it.each([
    ['passes if the dense model is as noisy', 1, 1],
    ['fails if only the written model is noisy', 0, 20],
  ])('measures the noise of kernels on the dense model, and %s', async (_, denseNoise, noise) => {
    const model = at('in/lone.onnx');
    await mkdir(at('in'));
    await writeFile(model, buildDecoder());
    const engine = addNoise((path) => (path === model ? denseNoise : noise));
    const run = prune({ ...withoutTokens, model, out: at('out'), engine });
    if (denseNoise === 0) {
      await expect(run).rejects.toThrow(NumericalError);
      await expect(run).rejects.toThrow(
        /kernels of ONNX Runtime .* and \S+ in float32\. Nothing was written\. "certify/,
      );
      const quantised = prune({
        ...withoutTokens,
        model,
        out: at('out'),
        engine,
        dtype: 'q4',
        rounding: 'nearest',
        widthMultiple: 8,
      });
      await expect(quantised).rejects.toThrow(
        /activations to int8; with "accuracyLevel: 0" \(quantize and prune\) they stay/,
      );
      return;
    }
    const { gap, tolerance, kernelNoise } = (await run).certificate!;
    expect(gap).toBeGreaterThan(0.01);
    expect(kernelNoise).toBeGreaterThan(0.01);
    expect(tolerance).toBeCloseTo(3 * kernelNoise!, 6);
  });

  it('has an infinite gap for NaN and for another number of logits', () => {
    const of = (...values: number[]) => Float32Array.from(values);
    expect(logitsGap(of(0, 1.5), of(0, 2))).toBe(0.25);
    expect(logitsGap(of(0, Number.NaN), of(0, 2))).toBe(Number.POSITIVE_INFINITY);
    expect(logitsGap(of(0), of(0, 2))).toBe(Number.POSITIVE_INFINITY);
  });
});

/** Prunes FFNs, changes the outcome that the certificate checks, and writes the result. */
function write(change: (outcome: PruneOutcome) => PruneOutcome | Promise<PruneOutcome>) {
  const pruneMeasured: Stages['pruneMeasured'] = {
    name: 'prune',
    run: async (context, input) => change(await STAGES.pruneMeasured.run(context, input)),
  };
  const request = { ...quick, model: SHORT_LLAMA, out: at('out'), method: 'flap', modules: 'ffn' } as const;
  return prune({ ...request, stages: { pruneMeasured } });
}

/** An engine that adds noise to the logits of entire models, as kernels that round activations do. */
function addNoise(scaleOf: (path: string) => number): Engine {
  return {
    ...testEngine,
    async loadFile(path, options) {
      const session = await testEngine.loadFile!(path, options);
      const scale = scaleOf(path);
      return {
        ...session,
        async run(feeds, fetches) {
          const results = await session.run(feeds, fetches);
          const { logits } = results;
          if (logits === undefined || scale === 0) return results;
          const data = (logits.data as Float32Array).map((value, token) => value + 0.1 * scale * Math.sin(token));
          return { ...results, logits: { ...logits, data } as Tensor };
        },
      };
    },
  };
}
