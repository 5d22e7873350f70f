import type { PrunableModule } from '../../architecture/layout.js';
import type { ChannelStatistics } from '../../compensation/adapter.js';
import { packTriangle, triangleLength, unpackTriangle } from '../../linalg/triangle.js';
import type { TensorStore } from '../../runtime/tensor-store.js';
import type { PruneJob } from '../job.js';

/** Stores statistics of modules until their units are ordered; Gram matrices in a tensor store. */
export interface StatisticsStore {
  put(module: PrunableModule, statistics: ChannelStatistics): Promise<void>;
  get(module: PrunableModule): Promise<ChannelStatistics>;
  dispose(): Promise<void>;
}

type StoreJob = Pick<PruneJob, 'analysed' | 'windows' | 'createStore'>;

export async function createStatisticsStore(
  job: StoreJob,
  modules: readonly PrunableModule[],
): Promise<StatisticsStore> {
  const lengths = modules.map(({ output }) => triangleLength(output.inputCount));
  const grams = await createMatrixStore(job, { count: modules.length, length: Math.max(0, ...lengths) });
  const stored = new Map<number, Omit<ChannelStatistics, 'gram'> & { readonly hasGram: boolean }>();
  return {
    async put({ index }, { gram, ...rest }) {
      stored.set(index, { ...rest, hasGram: gram !== undefined });
      if (gram === undefined) return;
      const size = rest.mean.length;
      const data = packTriangle(size, (row, column) => gram[row * size + column]!);
      await grams.put(index, { type: 'float32', dims: [data.length], data });
    },
    async get({ index, output }) {
      const found = stored.get(index);
      if (found === undefined) throw new RangeError(`no statistics of module ${index} were stored`);
      const { hasGram, ...rest } = found;
      if (!hasGram) return rest;
      const { data } = await grams.get(index);
      return { ...rest, gram: unpackTriangle(data as Float32Array, output.inputCount) };
    },
    dispose: () => grams.dispose(),
  };
}

/** Creates a store for the metric's curvatures at the outputs of some modules. */
export const createCurvatureStore = (job: StoreJob, modules: readonly PrunableModule[]): Promise<TensorStore> =>
  createMatrixStore(job, { count: modules.length, length: job.analysed.detected.layout.hiddenSize ** 2 });

/** Creates a store for one matrix of each module; `createStore` takes sizes in windows of hidden states. */
async function createMatrixStore(
  { analysed, windows, createStore }: StoreJob,
  { count, length }: { readonly count: number; readonly length: number },
): Promise<TensorStore> {
  const perWindow = analysed.detected.layout.hiddenSize * (windows[0]?.length ?? 1);
  return createStore(Math.ceil(length / perWindow), count);
}
