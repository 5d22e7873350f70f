import { nodePlatform } from '../../src/node/node-platform.js';
import { resolveRequest } from '../../src/options/request.js';
import { estimateMemory, estimateScratch } from '../../src/pipeline/estimate-resources.js';
import { runPrune } from '../../src/pipeline/run-prune.js';
import { STAGES } from '../../src/pipeline/stages.js';
import type { AnalysedModel } from '../../src/runtime/analyse-model.js';
import { packedMixture } from '../support/mixtures.js';
import { SHORT_LLAMA } from '../support/short-llama.js';
import { buildDecoder } from '../support/small-decoder.js';
import { loadTinyLlama } from '../support/tiny-llama.js';

const WINDOWS = { windowCount: 6, windowLength: 32 };
const NEURONS_7B = 11_008;

it.each(['flap', 'obc', 'o-fang', 'auto'])('estimates the scratch space that a run by %s uses', async (method) => {
  const ends: number[] = [];
  const createScratch = async () => {
    const file = await nodePlatform.createScratch();
    const at = ends.push(0) - 1;
    return {
      ...file,
      write(offset: number, bytes: Uint8Array) {
        ends[at] = Math.max(ends[at]!, offset + bytes.byteLength);
        return file.write(offset, bytes);
      },
    };
  };
  let analysed: AnalysedModel | undefined;
  const calibration = { ...WINDOWS, generate: false } as const;
  const request = { model: SHORT_LLAMA, sparsity: 0.3, method, calibration, dryRun: true, report: false } as const;
  await runPrune(
    { ...nodePlatform, createScratch },
    {
      ...request,
      stages: {
        analyse: {
          name: 'analyse',
          async run(context, input) {
            analysed = await STAGES.analyse.run(context, input);
            return analysed;
          },
        },
      },
    },
  );
  const found = ends.reduce((sum, end) => sum + end, 0);
  const { options } = resolveRequest({ ...request, sparsity: [0.3] });
  const tokenCount = WINDOWS.windowCount * WINDOWS.windowLength;
  const { parameterCount, hiddenSize } = analysed!.detected.layout;
  const { windowLength } = WINDOWS;
  const room = { analysed: analysed!, options, windowLength, modelBytes: 4 * parameterCount, sparsity: 0.3 };
  const estimate = estimateScratch({ ...room, tokenCount });
  // FLAP rewrites no weights.
  expect(found > 0).toBe(method !== 'flap');
  expect(found).toBeLessThanOrEqual(1.1 * estimate);
  expect(found).toBeGreaterThanOrEqual(0.25 * estimate);
  // The masked original has at least an output projection of every module.
  const outputs = analysed!.detected.layout.modules.reduce(
    (total, { output }) => total + output.inputCount * output.outputCount,
    0,
  );
  const certified = estimateScratch({ ...room, tokenCount, certifies: true });
  expect(certified - estimate).toBeGreaterThanOrEqual((method === 'flap' ? 1 : 2) * outputs * 4 - 1);
  // Hidden states of so many tokens do not fit in memory: each pass reads one file and writes another.
  const many = 2 ** 20;
  expect(estimateScratch({ ...room, tokenCount: many })).toBeGreaterThanOrEqual(2 * many * hiddenSize * 4);
});

it('estimates the memory of experts with packed weights', async () => {
  const { analysed } = await loadTinyLlama(buildDecoder({ ffn: packedMixture }));
  const { index, layout } = analysed.detected;
  // One layer of gpt-oss-20b.
  const [experts, size, blocks, heads] = [32, 2880, 90, 4096];
  const first = new Map(analysed.facts.first);
  const resize = (name: string, dims: readonly number[]) => first.set(name, { ...first.get(name)!, dims });
  for (const { opType, input } of index.nodes) {
    if (opType !== 'QMoE') continue;
    resize(input[2]!, [experts, 2 * size, size / 2]);
    resize(input[3]!, [experts, 2 * size, blocks]);
    resize(input[5]!, [experts, size, size / 2]);
    resize(input[6]!, [experts, size, blocks]);
  }
  const modules = layout.modules.map((module) =>
    module.kind === 'experts'
      ? { ...module, unitCount: experts, parameterCount: experts * 3 * size ** 2 }
      : { ...module, output: { ...module.output, inputCount: heads } },
  );
  const large = {
    ...analysed,
    facts: { ...analysed.facts, first },
    detected: { ...analysed.detected, layout: { ...layout, modules, hiddenSize: size } },
  };
  const { options, quantisation } = resolveRequest({ model: 'large', sparsity: [0.25], dryRun: true });
  // A run took 4.25 GB (docs/methods.md).
  expect(Math.abs(estimateMemory({ analysed: large, options, quantisation }) / 4.25e9 - 1)).toBeLessThan(1 / 3);
});

/** tiny-llama's graph with the sizes of Llama-2-7B's blocks. */
async function wideLlama(): Promise<AnalysedModel> {
  const { analysed } = await loadTinyLlama();
  const { layout } = analysed.detected;
  const [hiddenSize, neurons, vocabularySize] = [4096, NEURONS_7B, 32_000];
  const modules = layout.modules.map((module) => {
    const inputCount = module.kind === 'ffn' ? neurons : hiddenSize;
    const parameterCount = module.kind === 'ffn' ? 3 * hiddenSize * neurons : 4 * hiddenSize ** 2;
    return { ...module, parameterCount, output: { ...module.output, inputCount } };
  });
  return {
    ...analysed,
    detected: { ...analysed.detected, layout: { ...layout, modules, hiddenSize, vocabularySize } },
  };
}

it('estimates the scratch space for weights, moments and checkpoints of healing', async () => {
  const analysed = await wideLlama();
  const scratchOf = (heal: NonNullable<Parameters<typeof resolveRequest>[0]['heal']>) => {
    const { options } = resolveRequest({ model: 'large', sparsity: [0.5], heal, dryRun: true });
    return estimateScratch({ analysed, options, tokenCount: 0, windowLength: 512, modelBytes: 1e10, sparsity: 0.5 });
  };
  const { modules, hiddenSize } = analysed.detected.layout;
  const half = modules.reduce((sum, { parameterCount }) => sum + parameterCount, 0) / 2;
  expect(scratchOf(false)).toBe(0);
  // Two states of weights and two moments, gradients, healed weights, and a checkpoint that replaces another.
  const states = 3 * 68 * 512 * hiddenSize * 4 + 7 * 4 * 512 * hiddenSize * 4;
  expect(scratchOf(true)).toBeCloseTo(4 * (6 + 2 + 2 * 6) * half + states, -3);
  expect(scratchOf({ trained: 'ffn' })).toBeLessThan(scratchOf(true));
});

// Memory of two blocks of Llama-2-7B without a certificate (docs/research/performance.md).
it.each([
  ['obc', 4e9],
  ['o-fang', 2.7e9],
  ['auto', 5.6e9],
])('estimates the memory of %s with its backward pass', async (method, measured) => {
  const { options, quantisation } = resolveRequest({
    model: 'large',
    sparsity: [0.3],
    modules: 'ffn',
    dryRun: true,
    method,
  });
  const expected = estimateMemory({ analysed: await wideLlama(), options, quantisation });
  expect(Math.abs(expected / measured - 1)).toBeLessThan(0.2);
});

it('estimates the memory of calibrated rounding', async () => {
  const large = await wideLlama();
  const expected = (rounding: 'calibrated' | 'nearest') => {
    const request = {
      model: 'large',
      sparsity: [0],
      method: 'magnitude',
      dtype: 'q4',
      rounding,
      dryRun: true,
    } as const;
    const { options, quantisation } = resolveRequest(request);
    return estimateMemory({ analysed: large, options, quantisation });
  };
  // A run took 4.45 GB (docs/research/performance.md).
  expect(Math.abs(expected('calibrated') / 4.45e9 - 1)).toBeLessThan(1 / 3);
  expect(expected('calibrated') - expected('nearest')).toBe(3.5 * 8 * NEURONS_7B ** 2);
});
