import { resolveQuantisation } from '../../src/options/quantisation.js';
import { resolveOptions } from '../../src/options.js';
import { estimateCost, modelSize } from '../../src/pipeline/estimate-cost.js';
import type { Progress } from '../../src/progress.js';
import { EXPERTS, mixture, packedMixture, plainRouter } from '../support/mixtures.js';
import { buildDecoder, NEURONS, type Part, VOCABULARY } from '../support/small-decoder.js';
import { loadTinyLlama, pruneLoaded } from '../support/tiny-llama.js';

const load = (ffn: Part) => loadTinyLlama(buildDecoder({ ffn }));

it('counts the repair of experts, where they can be repaired', async () => {
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

it('is told how far the repair of experts is', async () => {
  const windows = Array.from({ length: 8 }, (_, window) =>
    Int32Array.from({ length: 16 }, (_, at) => (window * 17 + at * at * 7 + at * 3) % VOCABULARY),
  );
  const heard: Progress[] = [];
  const options = { sparsity: 0.4, modules: 'experts', method: 'obc', allocation: 'global' } as const;
  await pruneLoaded(
    await load(mixture(plainRouter)),
    { ...options, onProgress: (progress) => void heard.push(progress) },
    { windows },
  );
  const repaired = heard.filter(({ stage, total }) => stage === 'prune' && total > 1);
  const steps = new Set(repaired.map(({ done }) => done));
  // Both passes through each expert that stays, in two blocks; some get no token.
  expect(steps.size).toBeGreaterThan(2 * EXPERTS);
  expect(repaired.map(({ done }) => done)).toEqual(repaired.map(({ done }) => done).toSorted((a, b) => a - b));
});
