import { readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { shardFromEnvironment } from '../../src/cli/shard-from-environment.js';
import { OptionError } from '../../src/errors.js';
import { mergeStatistics, type ObserveRequest, observe, type PruneRequest, prune } from '../../src/node.js';
import { bytesSource } from '../../src/onnx/memory-folder.js';
import { readSafetensors, type TensorMap } from '../../src/onnx/safetensors.js';
import type { Progress } from '../../src/progress.js';
import type { SavedStatistics } from '../../src/report/statistics-schema.js';
import { hashFolder, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

/** A small decoder, since every model is observed in the same way. */
const MODEL = 'test/fixtures/exporters/llama-genai018-fp32';

const REQUEST = {
  model: MODEL,
  method: 'obc',
  metric: 'divergence',
  // Four batches, of which the last has a single window.
  calibration: { windowCount: 130, windowLength: 24, generate: false },
} as const;

const observeShard = (index: number, count: number, request: Partial<ObserveRequest> = {}) =>
  observe({ ...REQUEST, out: at(`${index}-of-${count}`), shard: `${index}/${count}`, ...request });
const placesOf = (count: number) => Array.from({ length: count }, (_, index) => at(`${index + 1}-of-${count}`));
const pruneFrom = (statistics: string, request: Partial<PruneRequest> = {}) =>
  prune({
    model: MODEL,
    sparsity: 0.3,
    method: 'obc',
    metric: 'divergence',
    statistics,
    certify: false,
    evaluation: false,
    dryRun: true,
    report: false,
    ...request,
  });
const readTensors = async (path: string): Promise<TensorMap> =>
  readSafetensors(bytesSource('statistics', await readFile(join(path, 'statistics.safetensors'))));

/** Largest distance of two tensors of floats, as a fraction of the largest value. */
async function gapOf(name: string, one: TensorMap, other: TensorMap): Promise<number> {
  const read = async (tensors: TensorMap) => {
    const { buffer } = (await tensors.get(name)!.read()).slice();
    return Array.from(tensors.get(name)!.dataType === 11 ? new Float64Array(buffer) : new Float32Array(buffer));
  };
  const [a, b] = [await read(one), await read(other)];
  const largest = a.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0) / largest;
}

describe('shards of one observation', () => {
  it('lead to the same units for any number and order of shards', async () => {
    const kept: string[] = [];
    for (const count of [1, 3, 4]) {
      for (let index = 1; index <= count; index += 1) await observeShard(index, count);
      const out = at(`merged-${count}`);
      const merged = await mergeStatistics({ shards: placesOf(count), out });
      expect(merged).toMatchObject({ shardCount: count, windowCount: 130, moduleCount: 4 });
      const { modules } = await pruneFrom(out);
      kept.push(JSON.stringify(modules.map(({ block, kind, keep }) => [block, kind, keep])));
    }
    expect(new Set(kept).size).toBe(1);
    const aborted = new AbortController();
    const onProgress = ({ stage }: Progress) => stage === 'merge' && aborted.abort();
    const before = await readdir(folder());
    const merging = mergeStatistics({ shards: placesOf(4), out: at('aborted'), onProgress, signal: aborted.signal });
    await expect(merging).rejects.toMatchObject({ name: 'AbortError' });
    expect(await readdir(folder())).toEqual(before);
    await mergeStatistics({ shards: placesOf(4).reverse(), out: at('reversed') });
    expect(await hashFolder(at('reversed'))).toBe(await hashFolder(at('merged-4')));
    const [one, four] = [await readTensors(at('merged-1')), await readTensors(at('merged-4'))];
    expect([...four.keys()].sort()).toEqual([...one.keys()].sort());
    for (const name of one.keys()) expect(await gapOf(name, one, four)).toBeLessThan(name === 'windows' ? 1e-12 : 1e-4);
    // Merged statistics cover all tokens, not those of one shard.
    const part = await readTensors(at('2-of-3'));
    expect(await gapOf('block.0.ffn.1.covariance', one, part)).toBeGreaterThan(1e-2);
  }, 240_000);

  it('are merged once: the same call returns the result, and other shards need force', async () => {
    const calibration = { ...REQUEST.calibration, windowCount: 44 };
    const plain = { method: 'flap', metric: 'output', calibration } as const;
    for (const index of [1, 2]) await observeShard(index, 2, plain);
    const out = at('out');
    const merge = (request: { force?: boolean } = {}) => mergeStatistics({ shards: placesOf(2), out, ...request });
    const merged = await merge();
    const written = async () => [await hashFolder(out), (await stat(join(out, 'statistics.safetensors'))).mtimeMs];
    const before = await written();
    expect(await merge()).toEqual(merged);
    expect(await written()).toEqual(before);
    await merge({ force: true });
    const [hash, time] = await written();
    expect(hash).toBe(before[0]);
    expect(time).not.toBe(before[1]);
    for (const index of [1, 2]) await observeShard(index, 2, { ...plain, seed: 5, force: true });
    await expect(merge()).rejects.toThrow(/out.statistics\.json exists\. Choose another place/);
    expect(await merge({ force: true })).toEqual(merged);
    await rm(join(out, 'statistics.safetensors'));
    await expect(merge()).rejects.toThrow(/statistics\.json exists/);
  }, 240_000);

  it('are refused by name if one is missing, doubled, of another observation, or no shard', async () => {
    // Two batches.
    const calibration = { ...REQUEST.calibration, windowCount: 44 };
    const plain = { method: 'flap', metric: 'output', calibration } as const;
    await observeShard(1, 2, plain);
    await observeShard(2, 2, plain);
    await observeShard(2, 2, { ...plain, seed: 5, out: at('foreign') });
    await observe({ ...REQUEST, ...plain, out: at('whole') });
    const merge = (...shards: string[]) => mergeStatistics({ shards: shards.map(at), out: at('out') });
    await expect(merge('1-of-2')).rejects.toThrow(/^Shard 2 of 2 is missing/);
    await expect(merge('1-of-2', '2-of-2', '1-of-2')).rejects.toThrow(/1-of-2.* are both shard 1 of 2/);
    await expect(merge('1-of-2', 'foreign')).rejects.toThrow(
      /foreign.* is of another observation than .*1-of-2.*another seed/,
    );
    await expect(merge('1-of-2', 'whole')).rejects.toThrow(/whole.* is not a shard/);
    await expect(merge('1-of-2', 'nowhere')).rejects.toThrow(/nowhere/);
    const over = mergeStatistics({ shards: ['1-of-2', '2-of-2'].map(at), out: at('1-of-2'), force: true });
    await expect(over).rejects.toThrow(/1-of-2.* is one of the shards/);
    await symlink(at('1-of-2'), at('link'), 'junction');
    const linked = mergeStatistics({ shards: ['1-of-2', '2-of-2'].map(at), out: at('link'), force: true });
    await expect(linked).rejects.toThrow(/1-of-2.* is one of the shards/);
    const run = pruneFrom(at('1-of-2'), { method: 'flap', metric: 'output' });
    await expect(run).rejects.toThrow(/1-of-2.* is shard 1 of 2; merge all shards first/);
  }, 240_000);

  it('are merged wherever their text files are', async () => {
    const text = await readFile('examples/models/tiny-llama/README.md', 'utf8');
    const observeText = async (index: number) => {
      const file = at(`text-${index}.txt`);
      await writeFile(file, text.repeat(4));
      const calibration = { ...REQUEST.calibration, source: { file }, windowCount: 44 };
      await observeShard(index, 2, { method: 'flap', metric: 'output', calibration });
    };
    for (const index of [1, 2]) await observeText(index);
    expect(await mergeStatistics({ shards: placesOf(2), out: at('out') })).toMatchObject({ windowCount: 44 });
  }, 240_000);

  it('are refused by name if a JSON file is damaged, which has no hash', async () => {
    const calibration = { ...REQUEST.calibration, windowCount: 44 };
    for (const index of [1, 2]) await observeShard(index, 2, { method: 'flap', metric: 'output', calibration });
    const damage = async (index: number, change: (json: SavedStatistics) => object) => {
      const file = join(at(`${index}-of-2`), 'statistics.json');
      const text = await readFile(file, 'utf8');
      const json = JSON.parse(text) as SavedStatistics;
      await writeFile(file, JSON.stringify({ ...json, ...change(json) }));
      return () => writeFile(file, text);
    };
    const shards = placesOf(2);
    for (const index of [1, 2]) {
      const restore = await damage(index, (json) => ({ calibration: { ...json.calibration, windowCount: 5 } }));
      const merged = mergeStatistics({ shards, out: at('out') });
      await expect(merged).rejects.toThrow(
        expect.objectContaining({
          code: 'ERR_MODEL_FORMAT',
          message: expect.stringMatching(`${index}-of-2.*"windows" is int32\\[\\d+, 24\\], expected int32\\[5, 24\\]`),
        }),
      );
      await restore();
    }
    const changes: readonly (readonly [(json: SavedStatistics) => object, RegExp])[] = [
      [() => ({ version: '0.0.1' }), /another version of fang-prune/],
      [({ model }) => ({ model: { ...model, sha256: '0'.repeat(64) } }), /another model/],
      [() => ({ metric: 'divergence' }), /another metric/],
      [({ calibration: c }) => ({ calibration: { ...c, windowsSha256: '0'.repeat(64) } }), /another calibration/],
      [({ settings }) => ({ settings: { ...settings, dampening: 3 } }), /another set of options/],
      [({ modules }) => ({ modules: modules.slice(1) }), /another list of modules/],
      [({ shard }) => ({ shard: { ...shard, firstWindow: 21 } }), /its windows begin at 21, expected 43/],
    ];
    for (const [change, message] of changes) {
      const restore = await damage(2, change);
      await expect(mergeStatistics({ shards, out: at('out') })).rejects.toThrow(message);
      await restore();
    }
    for (const index of [1, 2]) await damage(index, ({ shard }) => ({ shard: { ...shard, count: 5e9 } }));
    await expect(mergeStatistics({ shards, out: at('out') })).rejects.toThrow(
      /^Shards 3, 4, .*12 of 5000000000 are missing/,
    );
  }, 240_000);

  it('are refused before the run with an invalid number or method', async () => {
    await expect(observeShard(3, 2)).rejects.toThrow(/shard is 3\/2; expected at most 2\/2/);
    await expect(observeShard(1, 8)).rejects.toThrow(
      /shard is 1\/8, and the run has 4 batches \(130 windows, 43 at once\).*more windows \(calibration\.windowCount\)/,
    );
    await expect(observeShard(1, 2, { method: 'o-fang' })).rejects.toThrow(/shard does not work with function groups/);
    await expect(observeShard(1, 2, { shard: '4' })).rejects.toThrow(/shard is 4; expected a part of several/);
    await expect(observeShard(1, 2, { shard: '0/4' })).rejects.toThrow(OptionError);
  });
});

it.each([
  ['2/4', {}, '2/4'],
  ['4', { SLURM_ARRAY_TASK_ID: '5', SLURM_ARRAY_TASK_MIN: '5' }, '1/4'],
  ['4', { SLURM_ARRAY_TASK_ID: '3' }, '4/4'],
  ['4', { SLURM_ARRAY_TASK_ID: '5', SLURM_ARRAY_TASK_MIN: '1', SLURM_ARRAY_TASK_STEP: '2' }, '3/4'],
  ['4', { JOB_COMPLETION_INDEX: '1' }, '2/4'],
  ['4', { SLURM_ARRAY_TASK_ID: '', JOB_COMPLETION_INDEX: '2' }, '3/4'],
])('reads --shard %s in a task of an array (%j)', (given, environment, expected) => {
  expect(shardFromEnvironment(given, environment)).toBe(expected);
});

it('refuses --shard with an invalid task of an array', () => {
  expect(() => shardFromEnvironment('4', {})).toThrow(/neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set/);
  expect(() => shardFromEnvironment('4', { JOB_COMPLETION_INDEX: '' })).toThrow(/neither .* is set/);
  expect(() => shardFromEnvironment('4', { JOB_COMPLETION_INDEX: '4' })).toThrow(/is 4, which is not one of 4 tasks/);
  expect(() => shardFromEnvironment('4', { JOB_COMPLETION_INDEX: 'two' })).toThrow(/is two, which is not one of 4/);
  // An array that repeats one failed task.
  const again = { SLURM_ARRAY_TASK_ID: '3', SLURM_ARRAY_TASK_MIN: '3', SLURM_ARRAY_TASK_COUNT: '1' };
  expect(() => shardFromEnvironment('4', again)).toThrow(/--shard 4: the array has 1 task\..*give the index too/);
  const more = { SLURM_ARRAY_TASK_ID: '1', SLURM_ARRAY_TASK_COUNT: '8' };
  expect(() => shardFromEnvironment('4', more)).toThrow(/--shard 4: the array has 8 tasks\./);
});
