import { join } from 'node:path';
import { ModelFormatError, UnsupportedModelError } from '../../src/errors.js';
import { mergeStatistics, nodePlatform } from '../../src/node.js';
import type { TensorHandle } from '../../src/onnx/onnx-model.js';
import { bytesHandle, floatsHandle } from '../../src/onnx/tensor-handle.js';
import { type PruneOptions, resolveOptions } from '../../src/options.js';
import type { PruneJob } from '../../src/prune/job.js';
import { gatherStatistics } from '../../src/prune/measure-dense/gather-statistics.js';
import { loadStatistics } from '../../src/prune/measure-dense/measure-dense.js';
import { pruneMeasured } from '../../src/prune/prune-model.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { createStatisticsPacker, type PackedStatistics } from '../../src/report/pack-statistics.js';
import { checkSavedStatistics, parseStatistics } from '../../src/report/parse-statistics.js';
import { plainSettings } from '../../src/report/plain-settings.js';
import { type SavedStatistics, STATISTICS_SCHEMA } from '../../src/report/statistics-schema.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { openPair, resolvePair, writePair } from '../../src/storage/json-with-tensors.js';
import { testEngine } from '../support/engine.js';
import { buildDecoder, fusedExperts, VOCABULARY } from '../support/small-decoder.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';
import { loadTinyLlama, pruneLoaded, relativeGap } from '../support/tiny-llama.js';

const folder = useTemporaryFolder();
const loaded = await loadTinyLlama(buildDecoder({ ffn: fusedExperts }));
const windows = Array.from({ length: 3 }, (_, window) =>
  Int32Array.from({ length: 16 }, (_, at) => (window * 17 + at * at * 7 + at * 3) % VOCABULARY),
);
const METHOD = { method: 'auto', inputSteps: 0 } as const;
const jobOf = (options: PruneOptions, more: Partial<PruneJob> = {}): PruneJob => ({
  ...loaded,
  engine: testEngine,
  windows,
  store: storeInMemory,
  createStore: () => createMemoryStore(),
  options: resolveOptions(options),
  ...more,
});

async function observe(more: Partial<PruneJob> = {}, options: Partial<PruneOptions> = METHOD) {
  const job = jobOf({ ...options, sparsity: 0 }, more);
  const packer = createStatisticsPacker(storeInMemory);
  const { dense, remarks } = await gatherStatistics(job, packer);
  const { modules, experts, tensors } = await packer.finish(dense, job.windows);
  const saved = {
    modules,
    experts,
    remarks,
    seed: 0,
    sums: 'gram',
    metric: job.options.metric,
    schema: STATISTICS_SCHEMA,
    version: 'test',
    method: 'auto',
    model: { sha256: 'test', layout: 'test' },
    settings: plainSettings(job.options),
    calibration: { tokensSha256: 'test', windowCount: job.windows.length, windowLength: windows[0]!.length },
  } as unknown as SavedStatistics;
  return { saved, tensors };
}

const parse = ({ saved, tensors }: { saved: SavedStatistics; tensors: PackedStatistics['tensors'] }) =>
  parseStatistics(saved, {
    tensors,
    layout: loaded.analysed.detected.layout,
    files: { kind: 'statistics', json: 'statistics.json', tensors: 'statistics.safetensors' },
  });

const observed = await observe();

async function pruneFrom(options: PruneOptions, given = observed, readAgain: readonly Int32Array[] = []) {
  const { statistics } = await parse(given);
  const measured = await loadStatistics(jobOf(options, { windows: readAgain }), statistics);
  return pruneMeasured(measured);
}

it('prunes the same experts and neurons from statistics as from text', async () => {
  for (const sparsity of [0.3, 0.6]) {
    const options = { ...METHOD, sparsity, modules: 'experts' } as const;
    const [found, direct] = [await pruneFrom(options), await pruneLoaded(loaded, options, { windows })];
    const cutsOf = ({ modules }: typeof found) =>
      modules.map(({ module, keep, neurons }) => [module.index, keep, neurons]);
    expect(cutsOf(found)).toEqual(cutsOf(direct));
    expect(found.modules.some(({ neurons }) => neurons !== undefined)).toBe(true);
  }
  const { modules, remarks } = await pruneFrom({ ...METHOD, sparsity: 0.3 });
  expect(new Set(modules.map(({ module }) => module.kind))).toContain('experts');
  expect(remarks).not.toContainEqual(expect.stringMatching(/experts stay/));
});

it('repairs remaining experts as from text if windows of the statistics are read again', async () => {
  const options = { ...METHOD, sparsity: 0.3, modules: 'experts' } as const;
  const [direct, plain] = [await pruneLoaded(loaded, options, { windows }), await pruneFrom(options)];
  const repaired = await pruneFrom(options, observed, windows);
  const errorsOf = ({ modules }: typeof plain) => modules.map(({ error }) => error);
  expect(errorsOf(direct).some((error) => error !== undefined && error.after < error.before)).toBe(true);
  expect(errorsOf(repaired)).toEqual(errorsOf(direct));
  expect(errorsOf(plain).every((error) => error === undefined)).toBe(true);
  const notRepaired = /^the repair of experts was left out.*calibration\.windowCount/;
  expect(plain.remarks).toContainEqual(expect.stringMatching(notRepaired));
  expect(repaired.remarks).not.toContainEqual(expect.stringMatching(notRepaired));
});

it.each<[string, PruneOptions, RegExp]>([
  [
    'another metric',
    { sparsity: 0.3, method: 'flap' },
    /^experts stay: statistics order them by metric divergence, but the run uses output; read windows/,
  ],
  [
    'another score',
    { ...METHOD, sparsity: 0.3, expertScore: 'reap' },
    /^experts stay: statistics order them by expertScore removal, but the run uses reap; read windows/,
  ],
])('does not prune experts with statistics for %s', async (_, options, remark) => {
  const { modules, remarks } = await pruneFrom(options);
  expect(modules.every(({ module }) => module.kind === 'attention')).toBe(true);
  expect(remarks).toContainEqual(expect.stringMatching(remark));
  await expect(pruneFrom({ ...options, modules: 'experts' })).rejects.toThrow(UnsupportedModelError);
});

/** Statistics of shards that begin at some windows: written, merged and read again. */
async function observeInShards(starts: readonly number[]) {
  const at = (name: string) => join(folder(), `${starts.length}-${name}`);
  const shards = starts.map((firstWindow) => at(String(firstWindow)));
  const parts: PackedStatistics['tensors'][] = [];
  for (const [shard, firstWindow] of starts.entries()) {
    const { saved, tensors } = await observe({ windows: windows.slice(firstWindow, starts[shard + 1]), firstWindow });
    const json = { ...saved, shard: { index: shard + 1, count: starts.length, firstWindow } };
    const place = resolvePair(nodePlatform.files, 'statistics', shards[shard]!);
    await writePair(nodePlatform, place, { json, tensors });
    parts.push(tensors);
  }
  await mergeStatistics({ shards, out: at('merged') });
  const place = resolvePair(nodePlatform.files, 'statistics', at('merged'));
  const { json, tensors, close } = await openPair(nodePlatform, place, { check: checkSavedStatistics });
  const found = new Map<string, TensorHandle>();
  for (const [name, { dataType, dims, read }] of tensors)
    found.set(name, bytesHandle({ dataType, dims }, (await read()).slice()));
  await close();
  return { saved: json, tensors: found, parts };
}

const floatsOf = async (tensors: PackedStatistics['tensors'], name: string): Promise<Float32Array> =>
  new Float32Array((await tensors.get(name)!.read()).slice().buffer);

const unordered = (given: typeof observed): typeof observed => {
  const experts = given.saved.experts!.map((mixture) => ({ ...mixture, ordered: false as const }));
  return { ...given, saved: { ...given.saved, experts } };
};

it('orders experts as from text if windows of the statistics are read again', async () => {
  const options = { ...METHOD, sparsity: 0.3, modules: 'experts' } as const;
  const given = unordered(observed);
  const reason = /^experts stay: statistics have no removal order of them; read windows of the statistics again/;
  const { remarks } = await pruneFrom({ ...METHOD, sparsity: 0.3 }, given);
  expect(remarks).toContainEqual(expect.stringMatching(reason));
  await expect(pruneFrom(options, given)).rejects.toThrow(reason);
  const [direct, again] = [await pruneLoaded(loaded, options, { windows }), await pruneFrom(options, given, windows)];
  const cutsOf = ({ modules }: typeof again) =>
    modules.map(({ module, keep, neurons }) => [module.index, keep, neurons]);
  expect(cutsOf(again)).toEqual(cutsOf(direct));
  expect(again.remarks).not.toContainEqual(expect.stringMatching(/experts stay/));
});

it('merges the sums of shards, which do not order experts', async () => {
  const merged = await observeInShards([0, 2]);
  expect(merged.saved.experts!.map(({ ordered }) => ordered)).toEqual([false, false]);
  const names = [...merged.tensors.keys()].filter((name) => /experts.*curvature$/.test(name));
  expect(names).toHaveLength(2);
  for (const name of names) {
    const all = await Promise.all([...merged.parts, merged.tensors].map((one) => floatsOf(one, name)));
    const [first, second, joined] = all as [Float32Array, Float32Array, Float32Array];
    expect(
      relativeGap(
        joined,
        first.map((value, at) => (2 * value + second[at]!) / 3),
      ),
    ).toBeLessThan(1e-6);
  }
  const { modules } = await pruneFrom({ ...METHOD, sparsity: 0.3, modules: 'experts' }, merged, windows);
  expect(modules.some(({ neurons }) => neurons !== undefined)).toBe(true);
});

it('does not prune experts if the statistics lack the curvature', async () => {
  const tensors = new Map([...observed.tensors].filter(([name]) => !/experts.*curvature$/.test(name)));
  expect(tensors.size).toBe(observed.tensors.size - 2);
  const old = { ...unordered(observed), tensors };
  const { remarks } = await pruneFrom({ ...METHOD, sparsity: 0.3 }, old, windows);
  expect(remarks).toContain('experts stay: statistics have no removal order of them');
});

it('saves the routing of the tokens of each context in statistics', async () => {
  const options = { method: 'o-fang', grouping: { contextCount: 3 } } as const;
  const found = await observe({}, options);
  const from = await pruneFrom({ ...options, sparsity: 0.3 }, found);
  const direct = await pruneLoaded(loaded, { ...options, sparsity: 0.3 }, { windows });
  expect(direct.dense.routings!.size).toBe(2);
  expect(from.dense.routings).toEqual(direct.dense.routings);
  const name = [...found.tensors.keys()].find((key) => key.endsWith('contexts.routing'))!;
  const tensors = new Map(found.tensors);
  tensors.delete(name);
  await expect(parse({ ...found, tensors })).rejects.toThrow(`tensor "${name}" is missing`);
  expect(observed.saved.experts!.every(({ contexts }) => contexts === undefined)).toBe(true);
});

it('refuses missing or infinite orders by name', async () => {
  const name = [...observed.tensors.keys()].find((key) => key.endsWith('neurons.costs'))!;
  const tensors = new Map(observed.tensors);
  tensors.delete(name);
  await expect(parse({ ...observed, tensors })).rejects.toThrow(ModelFormatError);
  await expect(parse({ ...observed, tensors })).rejects.toThrow(`tensor "${name}" is missing`);
  const { dataType, dims } = observed.tensors.get(name)!;
  const count = dims.reduce((product, dim) => product * dim, 1);
  tensors.set(name, floatsHandle({ dataType, dims }, new Float64Array(count).fill(Number.POSITIVE_INFINITY)));
  await expect(parse({ ...observed, tensors })).rejects.toThrow(`tensor "${name}" contains Infinity`);
  const [mixture] = observed.saved.experts!;
  const invalid = { ...observed.saved, experts: [{ ...mixture!, kind: 'attention' as const }] };
  await expect(parse({ ...observed, saved: invalid })).rejects.toThrow(
    /experts\[0\] \(block 0 attention\) is not a module/,
  );
});
