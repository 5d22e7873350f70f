import { concatenate } from '../concatenate.js';
import { OptionError } from '../errors.js';
import { sum } from '../linalg/sum.js';
import { encodeFloats } from '../onnx/float-encoding.js';
import type { TensorHandle } from '../onnx/onnx-model.js';
import type { TensorMap } from '../onnx/safetensors.js';
import { bytesHandle, sourceHandle } from '../onnx/tensor-handle.js';
import { MERGE } from '../options/commands.js';
import { checkOptions, type OptionsOf, rowsOf } from '../options/option.js';
import type { OBSERVE_RESULT } from '../options/single-calls.js';
import type { JobControl } from '../progress.js';
import { findTensor, readDoubles, TENSOR_TYPES } from '../report/find-tensor.js';
import {
  buildTree,
  type CovariancePart,
  foldTree,
  joinCovariances,
  joinMeans,
  joinMoments,
  type SumTree,
  type WeightedMeans,
  type WeightedMoments,
} from '../report/merge-sums.js';
import { checkSavedStatistics } from '../report/parse-statistics.js';
import { damaged } from '../report/saved-file.js';
import {
  MODEL_TENSORS,
  type SavedShard,
  type SavedStatistics,
  sumNames,
  tensorNames,
} from '../report/statistics-schema.js';
import type { Platform } from '../runtime/platform.js';
import {
  checkPairPaths,
  openPair,
  type PairPaths,
  resolvePair,
  runOfPair,
  writePair,
} from '../storage/json-with-tensors.js';
import { totalBytes } from '../storage/model-folder.js';
import { VERSION } from '../version.js';
import { withJob } from './job-context.js';
import { withJournal } from './resumable-job.js';

/** Shards of one observation to merge. */
export interface MergeRequest extends JobControl, OptionsOf<Pick<typeof OBSERVE_RESULT, 'out' | 'force'>> {
  /** Results of `observe({ shard })`, in any order: all shards of one observation. */
  readonly shards: readonly string[];
}

/** Merged statistics. */
export interface MergedStatistics {
  /** Path of the JSON file; the tensors are next to it. */
  readonly out: string;
  readonly shardCount: number;
  readonly moduleCount: number;
  readonly windowCount: number;
  /** Both files. */
  readonly bytes: number;
  readonly remarks: readonly string[];
}

interface OpenShard {
  readonly place: PairPaths;
  readonly json: SavedStatistics & { readonly shard: SavedShard };
  readonly tensors: TensorMap;
  /** Of `tensors`. */
  readonly windows: TensorHandle;
  readonly tokenCount: number;
}

/**
 * Merges the statistics of all shards of an observation. Sums are added pairwise in the order of the shards,
 * independent of the order of files. Gram matrices are merged in pieces. An existing result of the same shards is returned.
 * @throws OptionError naming a missing or repeated shard, or one of another observation; ModelFormatError naming a damaged file.
 */
export async function runMerge(platform: Platform, request: MergeRequest): Promise<MergedStatistics> {
  checkOptions(request, rowsOf(MERGE));
  const { out, force = false } = request;
  const { files } = platform;
  const place = resolvePair(files, 'statistics', out);
  const checkPlace = () => checkPairPaths(files, place, { force });
  if (force || (await runOfPair(files, place)) === undefined) await checkPlace();
  return withJob(platform, request, async (context) => {
    const { onEnd, onProgress, signal } = context;
    const opened: OpenShard[] = [];
    for (const path of request.shards) {
      signal?.throwIfAborted();
      const shard = resolvePair(files, 'statistics', path);
      if ((await files.real(shard.json)) === (await files.real(place.json)))
        throw new OptionError(`${shard.json} is one of the shards. Choose another place for the statistics.`, {
          option: 'out',
        });
      const { json, tensors, close } = await openPair(platform, shard, { check: checkSavedStatistics, signal });
      onEnd(close);
      opened.push(describeShard(shard, json, tensors));
    }
    const shards = sortShards(opened);
    const windows = sum(shards.map(({ json }) => json.calibration.windowCount));
    const merged = { ...joinDescriptions(shards, windows), run: keyOf(platform, shards) };
    const isMerged = async () => !force && (await runOfPair(files, place)) === merged.run;
    const write = async () => {
      // Another call may have written it in the meantime.
      if (await isMerged()) return;
      await checkPlace();
      const tensors = await mergeTensors(shards, (done, total) => {
        signal?.throwIfAborted();
        onProgress?.({ stage: 'merge', done, total });
      });
      await writePair(platform, place, { json: merged, tensors });
    };
    if (!(await isMerged())) await withJournal(context, { output: out, key: merged.run, resume: true }, write);
    return {
      out: place.json,
      shardCount: shards.length,
      moduleCount: merged.modules.length,
      windowCount: windows,
      bytes: await totalBytes(platform, [place.json, place.tensors]),
      remarks: merged.remarks,
    };
  });
}

function describeShard(place: PairPaths, json: SavedStatistics, tensors: TensorMap): OpenShard {
  const { shard } = json;
  if (shard === undefined)
    throw new OptionError(`${place.json} is not a shard: its statistics are of all windows, and are not merged.`);
  const { windowCount, windowLength } = json.calibration;
  // Sums are weighted by these numbers, and the hash is of the tensors alone.
  const dims = [windowCount, windowLength];
  const windows = findTensor(MODEL_TENSORS.windows, { dataType: TENSOR_TYPES.int, dims }, { tensors, files: place });
  return { place, json: { ...json, shard }, tensors, windows, tokenCount: windowCount * windowLength };
}

/** Missing shards that a message names. */
const MAX_NAMED = 10;

/** Sorts the shards of one observation. @throws OptionError */
function sortShards(found: readonly OpenShard[]): readonly OpenShard[] {
  const [first, ...others] = found;
  if (first === undefined) throw new OptionError('there are no shards to merge', { option: 'shards' });
  for (const other of others) {
    const differing = COMPARED.find(([, of]) => JSON.stringify(of(first.json)) !== JSON.stringify(of(other.json)));
    if (differing !== undefined)
      throw new OptionError(
        `${other.place.json} is of another observation than ${first.place.json}: it has another ${differing[0]}. ` +
          'Observe both with the same version, model, options and calibration.',
      );
  }
  const { count } = first.json.shard;
  const byIndex = new Map<number, OpenShard>();
  for (const one of found) {
    const { index } = one.json.shard;
    const other = byIndex.get(index);
    if (other !== undefined)
      throw new OptionError(
        `${other.place.json} and ${one.place.json} are both shard ${index} of ${count}. Leave one of them out.`,
      );
    byIndex.set(index, one);
  }
  const missing: number[] = [];
  // A damaged file may have a count of millions.
  for (let index = 1; index <= count && missing.length < MAX_NAMED; index += 1)
    if (!byIndex.has(index)) missing.push(index);
  if (missing.length > 0)
    throw new OptionError(
      `${missing.length === 1 ? 'Shard' : 'Shards'} ${missing.join(', ')} of ${count} ${missing.length === 1 ? 'is' : 'are'} missing. ` +
        `Create each by observe, such as shard ${missing[0]}/${count} (--shard), and give it too.`,
    );
  const sorted = [...byIndex.values()].sort((one, other) => one.json.shard.index - other.json.shard.index);
  let next = 0;
  for (const { json, place } of sorted) {
    const { firstWindow } = json.shard;
    if (firstWindow !== next)
      throw damaged('statistics', `${place.json}: its windows begin at ${firstWindow}, expected ${next}`);
    next += json.calibration.windowCount;
  }
  return sorted;
}

/** Properties that must be equal for all shards. */
const COMPARED: readonly (readonly [string, (json: OpenShard['json']) => unknown])[] = [
  ['version of fang-prune', ({ version }) => version],
  ['model', ({ model }) => model],
  ['method', ({ method }) => method],
  ['seed', ({ seed }) => seed],
  ['set of sums', ({ sums }) => sums],
  ['metric', ({ metric }) => metric],
  ['number of shards', ({ shard }) => shard.count],
  ['calibration', ({ calibration: { windowCount: _, ...calibration } }) => calibration],
  // The hash of the windows is compared, not the path of their text.
  [
    'set of options',
    ({ settings }) => ({ ...settings, calibration: { ...Object(settings.calibration), source: undefined } }),
  ],
  ['list of modules', ({ modules, experts }) => [modules, experts]],
];

/** Key of a merge: equal keys give equal files. */
function keyOf({ createHash }: Platform, shards: readonly OpenShard[]): string {
  const hash = createHash();
  // Each contains the hash of its tensors.
  for (const { json } of shards) hash.update(new TextEncoder().encode(`${JSON.stringify(json)}\n`));
  hash.update(new TextEncoder().encode(VERSION));
  return hash.digest();
}

function joinDescriptions(shards: readonly OpenShard[], windowCount: number): Omit<SavedStatistics, 'tensors'> {
  const [{ json }] = shards as [OpenShard];
  const { shard: _, run: __, tensors: ___, ...common } = json;
  const engines = new Set(
    shards.map(({ json: { environment } }) =>
      [environment?.onnxRuntime, environment?.executionProvider, environment?.threads].join(),
    ),
  );
  const remarks = shards.flatMap((one) => one.json.remarks);
  return {
    ...common,
    calibration: { ...json.calibration, windowCount },
    remarks: [
      ...new Set([...remarks, ...(engines.size > 1 ? ['shards were measured by engines that round differently'] : [])]),
    ],
  };
}

/** Merged tensors, computed when they are read. */
async function mergeTensors(
  shards: readonly OpenShard[],
  onModule: (done: number, total: number) => void,
): Promise<TensorMap> {
  const [{ json, tensors: first }] = shards as [OpenShard];
  const tree = buildTree(shards);
  const merged = new Map<string, TensorHandle>();
  merged.set(MODEL_TENSORS.windows, await joinWindows(shards));
  for (const name of [MODEL_TENSORS.blockChange, MODEL_TENSORS.sensitivity]) {
    const handle = first.get(name);
    if (handle === undefined) continue;
    const { values } = await foldTree(tree, { read: (one) => readMeans(one, name, handle.dims), join: joinMeans });
    merged.set(name, doublesHandle(values));
  }
  const { modules, experts = [] } = json;
  const mergeTriangle = (name: string, means: string | undefined, at: number) => {
    const handle = first.get(name);
    const onRead = () => onModule(at, modules.length + experts.length);
    if (handle !== undefined) merged.set(name, lazyTriangle(tree, { name, means, handle, onRead }));
  };
  for (const [at, module] of modules.entries()) {
    const { sumsOf, curvature } = tensorNames(module);
    const names = sumNames(sumsOf());
    const moments = await foldTree(tree, { read: (one) => readMoments(one, names), join: joinMoments });
    merged.set(names.mean, doublesHandle(moments.mean));
    merged.set(names.variance, doublesHandle(moments.variance));
    mergeTriangle(names.covariance, names.mean, at);
    mergeTriangle(curvature, undefined, at);
  }
  for (const [at, mixture] of experts.entries())
    mergeTriangle(tensorNames(mixture).curvature, undefined, modules.length + at);
  return merged;
}

const doublesHandle = (values: Float64Array): TensorHandle =>
  bytesHandle({ dataType: TENSOR_TYPES.double, dims: [values.length] }, encodeFloats(TENSOR_TYPES.double, values));

async function joinWindows(shards: readonly OpenShard[]): Promise<TensorHandle> {
  const parts = await Promise.all(shards.map(({ windows }) => windows.read()));
  const [{ json }] = shards as [OpenShard];
  const dims = [sum(shards.map(({ json: { calibration } }) => calibration.windowCount)), json.calibration.windowLength];
  return bytesHandle({ dataType: TENSOR_TYPES.int, dims }, concatenate(Uint8Array, parts));
}

const tensorsOf = ({ tensors, place }: OpenShard) => ({ tensors, files: place });

async function readMeans(shard: OpenShard, name: string, dims: readonly number[]): Promise<WeightedMeans> {
  return { tokenCount: shard.tokenCount, values: await readDoubles(name, dims, tensorsOf(shard)) };
}

async function readMoments(shard: OpenShard, names: ReturnType<typeof sumNames>): Promise<WeightedMoments> {
  const dims = shard.tensors.get(names.mean)?.dims ?? [];
  const [mean, variance] = [
    await readDoubles(names.mean, dims, tensorsOf(shard)),
    await readDoubles(names.variance, dims, tensorsOf(shard)),
  ];
  return { tokenCount: shard.tokenCount, mean, variance };
}

interface TriangleMerge {
  readonly name: string;
  /** Tensor of means for a covariance; absent for a plain mean over tokens. */
  readonly means: string | undefined;
  /** Handle of one of the shards. */
  readonly handle: TensorHandle;
  readonly onRead: () => void;
}

/** A merged triangle, computed piece by piece when read. */
function lazyTriangle(
  tree: SumTree<OpenShard>,
  { name, means, handle: { dims, dataType, byteLength }, onRead }: TriangleMerge,
): TensorHandle {
  const width = Float32Array.BYTES_PER_ELEMENT;
  const read = async (from: number, length: number) => {
    onRead();
    const start = Math.floor(from / width);
    const count = Math.ceil((from + length) / width) - start;
    const { values } = await foldTree(tree, {
      read: (shard) => readPart(shard, { name, means, start, count, dims }),
      join: (one, other) => (means === undefined ? { ...one, ...joinMeans(one, other) } : joinCovariances(one, other)),
    });
    const bytes = encodeFloats(TENSOR_TYPES.float, values);
    return bytes.slice(from - start * width, from - start * width + length);
  };
  return sourceHandle({ dataType, dims }, { name: 'merged statistics', byteLength, read }, 0);
}

interface PartRequest extends Pick<TriangleMerge, 'name' | 'means'> {
  readonly start: number;
  readonly count: number;
  readonly dims: readonly number[];
}

async function readPart(shard: OpenShard, { name, means, start, count, dims }: PartRequest): Promise<CovariancePart> {
  const { tensors, place, tokenCount } = shard;
  const handle = tensors.get(name);
  if (handle === undefined || String(handle.dims) !== String(dims))
    throw damaged('statistics', `${place.tensors}: tensor "${name}" is missing or of another size`);
  const width = Float32Array.BYTES_PER_ELEMENT;
  const bytes = await handle.read({ offset: start * width, length: count * width });
  const values = Float64Array.from(new Float32Array(bytes.slice().buffer));
  const invalid = values.find((value) => !Number.isFinite(value));
  if (invalid !== undefined) throw damaged('statistics', `${place.tensors}: tensor "${name}" contains ${invalid}`);
  const mean =
    means === undefined
      ? new Float64Array(0)
      : await readDoubles(means, tensors.get(means)?.dims ?? [], tensorsOf(shard));
  return { tokenCount, mean, start, values };
}
