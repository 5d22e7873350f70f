import { ModelFormatError, UnsupportedModelError } from '../../src/errors.js';
import { floatsHandle } from '../../src/onnx/tensor-handle.js';
import { type PruneOptions, resolveOptions } from '../../src/options.js';
import type { PruneJob } from '../../src/prune/job.js';
import { gatherStatistics } from '../../src/prune/measure-dense/gather-statistics.js';
import { loadStatistics } from '../../src/prune/measure-dense/measure-dense.js';
import { pruneMeasured } from '../../src/prune/prune-model.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { createStatisticsPacker, type PackedStatistics } from '../../src/report/pack-statistics.js';
import { parseStatistics } from '../../src/report/parse-statistics.js';
import { plainSettings } from '../../src/report/plain-settings.js';
import type { SavedStatistics } from '../../src/report/statistics-schema.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
import { buildDecoder, fusedExperts, VOCABULARY } from '../support/small-decoder.js';
import { loadTinyLlama, pruneLoaded } from '../support/tiny-llama.js';

const loaded = await loadTinyLlama(buildDecoder({ ffn: fusedExperts }));
const windows = Array.from({ length: 3 }, (_, window) =>
  Int32Array.from({ length: 16 }, (_, at) => (window * 17 + at * at * 7 + at * 3) % VOCABULARY),
);
const METHOD = { method: 'auto', inputSteps: 0 } as const;
const jobOf = (options: PruneOptions, more: Partial<PruneJob> = {}): PruneJob => ({
  ...{ ...loaded, engine: testEngine, windows, store: storeInMemory, createStore: () => createMemoryStore() },
  options: resolveOptions(options),
  ...more,
});

async function observe(more: Partial<PruneJob> = {}) {
  const job = jobOf({ ...METHOD, sparsity: 0 }, more);
  const packer = createStatisticsPacker(storeInMemory);
  const { dense, remarks } = await gatherStatistics(job, packer.addModule);
  const { modules, experts, tensors } = await packer.finish(dense, windows);
  const saved = {
    ...{ modules, experts, remarks, seed: 0, sums: 'gram', metric: 'divergence' },
    settings: plainSettings(job.options),
    calibration: { windowCount: windows.length, windowLength: windows[0]!.length },
  } as unknown as SavedStatistics;
  return { saved, tensors };
}

const parse = ({ saved, tensors }: { saved: SavedStatistics; tensors: PackedStatistics['tensors'] }) =>
  parseStatistics(saved, {
    ...{ tensors, layout: loaded.analysed.detected.layout },
    files: { kind: 'statistics', json: 'statistics.json', tensors: 'statistics.safetensors' },
  });

const observed = await observe();

async function pruneFrom(options: PruneOptions, given = observed, readAgain: readonly Int32Array[] = []) {
  const { statistics } = await parse(given);
  const measured = await loadStatistics(jobOf(options, { windows: readAgain }), statistics);
  return pruneMeasured(measured);
}

it('experts and their neurons leave by statistics as they leave by text', async () => {
  for (const sparsity of [0.3, 0.6]) {
    const options = { ...METHOD, sparsity, modules: 'experts' } as const;
    const [kept, direct] = [await pruneFrom(options), await pruneLoaded(loaded, options, { windows })];
    const cutsOf = ({ modules }: typeof kept) =>
      modules.map(({ module, keep, neurons }) => [module.index, keep, neurons]);
    expect(cutsOf(kept)).toEqual(cutsOf(direct));
    expect(kept.modules.some(({ neurons }) => neurons !== undefined)).toBe(true);
  }
  const { modules, remarks } = await pruneFrom({ ...METHOD, sparsity: 0.3 });
  expect(new Set(modules.map(({ module }) => module.kind))).toContain('experts');
  expect(remarks).not.toContainEqual(expect.stringMatching(/experts stay/));
});

it('experts that stay are repaired where windows of the statistics are read again, as by text', async () => {
  const options = { ...METHOD, sparsity: 0.3, modules: 'experts' } as const;
  const [direct, plain] = [await pruneLoaded(loaded, options, { windows }), await pruneFrom(options)];
  const repaired = await pruneFrom(options, observed, windows);
  const errorsOf = ({ modules }: typeof plain) => modules.map(({ error }) => error);
  expect(errorsOf(direct).some((error) => error !== undefined && error.after < error.before)).toBe(true);
  expect(errorsOf(repaired)).toEqual(errorsOf(direct));
  expect(errorsOf(plain).every((error) => error === undefined)).toBe(true);
  const leftOut = /^the repair of experts was left out.*calibration\.windowCount/;
  expect(plain.remarks).toContainEqual(expect.stringMatching(leftOut));
  expect(repaired.remarks).not.toContainEqual(expect.stringMatching(leftOut));
});

it.each<[string, PruneOptions, RegExp]>([
  [
    'another metric',
    { sparsity: 0.3, method: 'flap' },
    /^experts stay: statistics order them by metric divergence, and the run asks for output$/,
  ],
  [
    'another score',
    { ...METHOD, sparsity: 0.3, expertScore: 'reap' },
    /^experts stay: statistics order them by expertScore removal, and the run asks for reap$/,
  ],
])('experts stay where statistics were made for %s', async (_, options, remark) => {
  const { modules, remarks } = await pruneFrom(options);
  expect(modules.every(({ module }) => module.kind === 'attention')).toBe(true);
  expect(remarks).toContainEqual(expect.stringMatching(remark));
  await expect(pruneFrom({ ...options, modules: 'experts' })).rejects.toThrow(UnsupportedModelError);
});

it('experts stay in shards, and where statistics hold nothing of them', async () => {
  const shard = await observe({ firstWindow: 0 });
  expect(shard.saved.experts).toEqual([]);
  const reason = 'experts stay: their order is no sum that shards could share';
  expect(shard.saved.remarks).toContain(reason);
  const { remarks } = await pruneFrom({ ...METHOD, sparsity: 0.3 }, shard);
  expect(remarks).toContain('experts stay: statistics hold nothing of them');
  const options = resolveOptions({ ...METHOD, sparsity: 0, modules: 'experts' });
  await expect(observe({ firstWindow: 0, options })).rejects.toThrow(reason);
});

it('damaged orders are refused by name', async () => {
  const name = [...observed.tensors.keys()].find((key) => key.endsWith('neurons.costs'))!;
  const tensors = new Map(observed.tensors);
  tensors.delete(name);
  await expect(parse({ ...observed, tensors })).rejects.toThrow(ModelFormatError);
  await expect(parse({ ...observed, tensors })).rejects.toThrow(`tensor "${name}" is missing`);
  const { dataType, dims } = observed.tensors.get(name)!;
  const count = dims.reduce((product, dim) => product * dim, 1);
  tensors.set(name, floatsHandle({ dataType, dims }, new Float64Array(count).fill(Number.POSITIVE_INFINITY)));
  await expect(parse({ ...observed, tensors })).rejects.toThrow(`tensor "${name}" holds Infinity`);
  const [mixture] = observed.saved.experts!;
  const stray = { ...observed.saved, experts: [{ ...mixture!, kind: 'attention' as const }] };
  await expect(parse({ ...observed, saved: stray })).rejects.toThrow(/experts\[0\] \(block 0 attention\) is no module/);
});
