import { resolveQuantisation } from '../../src/options/quantisation.js';
import { resolveRequest } from '../../src/options/request.js';
import { resolveOptions } from '../../src/options.js';
import {
  estimateCost,
  estimateObservation,
  type MachineSpeed,
  type ModelSize,
  modelSize,
} from '../../src/pipeline/estimate-cost.js';
import type { Progress } from '../../src/progress.js';
import { EXPERTS, mixture, packedMixture, plainRouter } from '../support/mixtures.js';
import { buildDecoder, NEURONS, type Part, VOCABULARY } from '../support/small-decoder.js';
import { loadTinyLlama, pruneLoaded } from '../support/tiny-llama.js';

const load = (ffn: Part) => loadTinyLlama(buildDecoder({ ffn }));

it('counts the repair of experts if they can be repaired', async () => {
  const [float, packed] = [await load(mixture(plainRouter)), await load(packedMixture)];
  const widthsOf = ({ analysed }: typeof float) => modelSize(analysed).modules.map(({ experts }) => experts?.width);
  expect(widthsOf(float)).toEqual([undefined, NEURONS, undefined, NEURONS]);
  expect(widthsOf(packed)).toEqual([undefined, undefined, undefined, undefined]);
  const pruneMs = (method: 'obc' | 'flap', withRepair: boolean) => {
    const size = modelSize(float.analysed);
    const modules = size.modules.map(({ experts, ...module }) => ({
      ...module,
      experts: experts && { ...experts, width: withRepair ? experts.width : undefined },
    }));
    const steps = estimateCost({
      options: resolveOptions({ sparsity: 0.3, modules: 'experts', method }),
      quantisation: resolveQuantisation({}),
      calibration: { windowCount: 16, generate: undefined },
      windowLength: 512,
      size: { ...size, modules },
      resultCount: 1,
      evaluated: { modelCount: 0, tokenCount: 0, newTokens: 0 },
      certifies: false,
      speed: { graphs: 1, script: 1 },
      measuresQuality: false,
      quotes: false,
    });
    return steps.find(({ stage }) => stage === 'prune')!.ms;
  };
  expect(pruneMs('obc', true)).toBeGreaterThan(pruneMs('obc', false) + 50);
  expect(pruneMs('flap', true)).toBe(pruneMs('flap', false));
});

it('reports progress of the repair of experts', async () => {
  const windows = Array.from({ length: 8 }, (_, window) =>
    Int32Array.from({ length: 16 }, (_, at) => (window * 17 + at * at * 7 + at * 3) % VOCABULARY),
  );
  const events: Progress[] = [];
  const options = { sparsity: 0.4, modules: 'experts', method: 'obc', allocation: 'global' } as const;
  await pruneLoaded(
    await load(mixture(plainRouter)),
    { ...options, onProgress: (progress) => void events.push(progress) },
    { windows },
  );
  const repaired = events.filter(({ stage, total }) => stage === 'prune' && total > 1);
  const steps = new Set(repaired.map(({ done }) => done));
  // Both passes through each remaining expert, in two blocks; some get no token.
  expect(steps.size).toBeGreaterThan(2 * EXPERTS);
  expect(repaired.map(({ done }) => done)).toEqual(repaired.map(({ done }) => done).toSorted((a, b) => a - b));
});

interface LlamaShape {
  readonly blocks: number;
  readonly hidden: number;
  /** Channels of all keys. */
  readonly keys: number;
  readonly neurons: number;
  readonly vocabulary: number;
  readonly tied: boolean;
}

function llamaSize({ blocks, hidden, keys, neurons, vocabulary, tied }: LlamaShape): ModelSize {
  const attention = { kind: 'attention' as const, inputs: hidden, outputs: hidden };
  const ffn = { kind: 'ffn' as const, inputs: neurons, outputs: hidden };
  const [mixing, feeding] = [2 * hidden * (hidden + keys), 3 * hidden * neurons];
  const blockParameters = blocks * (mixing + feeding);
  const headParameters = vocabulary * hidden;
  return {
    blockCount: blocks,
    segmentCount: 2 * blocks,
    vocabularySize: vocabulary,
    blockParameters,
    headParameters,
    ffnParameters: blocks * feeding,
    megabytes: (4 * (blockParameters + (tied ? 1 : 2) * headParameters)) / 1e6,
    modules: Array.from({ length: blocks }, () => [
      { ...attention, parameters: mixing },
      { ...ffn, parameters: feeding },
    ]).flat(),
  };
}

const TINY = { blocks: 6, hidden: 192, keys: 96, neurons: 512, vocabulary: 2048, tied: true };
const SMOL = { blocks: 30, hidden: 576, keys: 192, neurons: 1536, vocabulary: 49_152, tied: true };
const ONE_OF_7B = { blocks: 1, hidden: 4096, keys: 4096, neurons: 11_008, vocabulary: 32_000, tied: false };

/**
 * Shape, windows, window length, speed of the machine by a dry run right before (graphs of the model, JavaScript), and CPU seconds of `prune` at
 * 30 % (*: without certificate, quality and report), on one shared core of a Xeon (AVX-512). The single block has random weights in float16.
 */
const MEASURED = {
  'tiny-llama flap': [TINY, 16, 256, { graphs: 0.095, script: 0.6 }, 5.8],
  'tiny-llama obc': [TINY, 16, 256, { graphs: 0.11, script: 0.56 }, 6.4],
  'tiny-llama f-fang': [TINY, 16, 256, { graphs: 0.14, script: 0.6 }, 10.6],
  'tiny-llama o-fang': [TINY, 16, 256, { graphs: 0.135, script: 0.6 }, 12.4],
  'tiny-llama auto': [TINY, 16, 256, { graphs: 0.09, script: 0.6 }, 20.7],
  'SmolLM2-135M flap': [SMOL, 4, 256, { graphs: 0.303, script: 0.606 }, 65.1],
  'SmolLM2-135M f-fang *': [SMOL, 4, 256, { graphs: 0.328, script: 0.608 }, 57.2],
  'SmolLM2-135M auto *': [SMOL, 4, 256, { graphs: 0.286, script: 0.586 }, 180.2],
  'Llama-2-7B, one block, flap': [ONE_OF_7B, 2, 512, { graphs: 0.387, script: 0.54 }, 67.6],
  'Llama-2-7B, one block, obc': [ONE_OF_7B, 2, 512, { graphs: 0.443, script: 0.58 }, 156.5],
  'Llama-2-7B, one block, o-fang *': [ONE_OF_7B, 2, 512, { graphs: 0.455, script: 0.479 }, 84.5],
} as const satisfies Record<string, readonly [LlamaShape, number, number, MachineSpeed, number]>;

it.each(Object.entries(MEASURED))('estimates the CPU time of a run within a factor of 1.5: %s', (name, run) => {
  const [shape, windowCount, windowLength, speed, seconds] = run;
  const method = /flap|obc|[of]-fang|auto/.exec(name)![0];
  const calibration = { windowCount, windowLength };
  const checks = !name.endsWith('*');
  const steps = estimateCost({
    ...resolveRequest({ model: 'llama', sparsity: [0.3], method, calibration, dryRun: true }),
    windowLength,
    speed,
    size: llamaSize(shape),
    resultCount: 1,
    evaluated: { modelCount: 0, tokenCount: 0, newTokens: 0 },
    certifies: checks,
    measuresQuality: checks,
    quotes: checks,
  });
  const expected = steps.reduce((sum, { ms }) => sum + ms, 0) / 1000;
  expect(expected).toBeGreaterThan(seconds / 1.5);
  expect(expected).toBeLessThan(seconds * 1.5);
});

it('estimates that a shard generates all windows, and measures its own', () => {
  const request = resolveRequest({ model: 'llama', sparsity: [0.3], method: 'auto', dryRun: true });
  const stepsOf = (shardCount: number) => {
    const speed = { graphs: 1, script: 1 };
    const steps = estimateObservation({ ...request, windowLength: 512, size: llamaSize(TINY), shardCount, speed });
    return Object.fromEntries(steps.map(({ stage, ms }) => [stage, ms]));
  };
  const [all, quarter] = [stepsOf(1), stepsOf(4)];
  expect(quarter.generate).toBe(all.generate);
  expect(quarter.observe).toBeLessThan(all.observe! / 2);
});

it('estimates backward passes over as many tokens as the curvature of wide outputs needs', () => {
  const gradients = (shape: LlamaShape, windowCount: number) => {
    const calibration = { windowCount };
    const steps = estimateCost({
      ...resolveRequest({ model: 'llama', sparsity: [0.3], method: 'auto', calibration, dryRun: true }),
      windowLength: 512,
      size: llamaSize(shape),
      resultCount: 1,
      speed: { graphs: 1, script: 1 },
      evaluated: { modelCount: 0, tokenCount: 0, newTokens: 0 },
      certifies: false,
      measuresQuality: false,
      quotes: false,
    });
    return steps.find(({ stage }) => stage === 'gradients')!.ms;
  };
  // 16,384 tokens suffice for 576 outputs, 4,096 need twice as many.
  expect(gradients(SMOL, 64)).toBe(gradients(SMOL, 32));
  const ofWindows = gradients(ONE_OF_7B, 32) - gradients(ONE_OF_7B, 16);
  expect(gradients(ONE_OF_7B, 64) - gradients(ONE_OF_7B, 32)).toBeCloseTo(2 * ofWindows);
});

it('estimates coordinate descent in two bits: 15 s measured for SmolLM2-135M, within a factor of 2', () => {
  const rounding = (dtype: 'q2' | 'q4') => {
    const steps = estimateCost({
      ...resolveRequest({ model: 'llama', sparsity: [0], dtype, dryRun: true }),
      windowLength: 512,
      size: llamaSize(SMOL),
      resultCount: 1,
      speed: { graphs: 0.303, script: 0.606 },
      evaluated: { modelCount: 0, tokenCount: 0, newTokens: 0 },
      certifies: false,
      measuresQuality: false,
      quotes: false,
    });
    return steps.find(({ stage }) => stage === 'quantise')!.ms;
  };
  const seconds = (rounding('q2') - rounding('q4')) / 1000;
  expect(seconds).toBeGreaterThan(15 / 2);
  expect(seconds).toBeLessThan(15 * 2);
});
