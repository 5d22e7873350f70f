import type { PrunableModule } from '../architecture/layout.js';
import type { ChannelStatistics } from '../compensation/adapter.js';
import { packTriangle } from '../linalg/triangle.js';
import { encodeFloats } from '../onnx/float-encoding.js';
import type { TensorHandle } from '../onnx/onnx-model.js';
import type { TensorMap } from '../onnx/safetensors.js';
import type { DenseMeasures, FunctionalModule, MixtureRouting } from '../prune/measure-dense/dense-measures.js';
import type { StatisticsSink } from '../prune/measure-dense/gather-statistics.js';
import type { ModuleRemovalOrder } from '../prune/measure-dense/order-units.js';
import type { StoreTensor } from '../removal/repair-linear.js';
import { TENSOR_TYPES } from './find-tensor.js';
import { MODEL_TENSORS, type SavedMixture, type SavedModule, sumNames, tensorNames } from './statistics-schema.js';

/** Takes statistics apart, module by module: numbers into tensors, shapes into JSON. */
export interface StatisticsPacker extends StatisticsSink {
  /** The packed statistics, with measurements of the model as a whole. */
  finish(dense: DenseMeasures, windows: readonly Int32Array[]): Promise<PackedStatistics>;
}

export interface PackedStatistics {
  readonly modules: readonly SavedModule[];
  readonly experts: readonly SavedMixture[];
  readonly tensors: TensorMap;
}

/** @param store Takes large tensors as they come, since they do not fit into memory together. */
export function createStatisticsPacker(store: StoreTensor): StatisticsPacker {
  const tensors = new Map<string, TensorHandle>();
  const measured: PrunableModule[] = [];
  const mixtures: PrunableModule[] = [];
  const put = {
    floats: (name: string, dims: readonly number[], values: Float32Array | Float64Array) =>
      keep(name, { dataType: TENSOR_TYPES.float, dims }, encodeFloats(TENSOR_TYPES.float, values)),
    doubles: (name: string, dims: readonly number[], values: Float64Array) =>
      keep(name, { dataType: TENSOR_TYPES.double, dims }, encodeFloats(TENSOR_TYPES.double, values)),
    integers: (name: string, dims: readonly number[], values: Int32Array) =>
      keep(name, { dataType: TENSOR_TYPES.int, dims }, new Uint8Array(values.slice().buffer)),
  };
  const keep = async (...[name, shape, bytes]: [string, ...Parameters<StoreTensor>]) => {
    tensors.set(name, await store(shape, bytes));
  };
  return {
    async addModule({ module, whole, groups = [], curvature }) {
      const names = tensorNames(module);
      measured.push(module);
      await putSums(put, names.sumsOf(), whole);
      for (const [group, statistics] of groups.entries()) await putSums(put, names.sumsOf(group), statistics);
      await putCurvature(put, module, curvature);
    },
    async addMixture(module, curvature) {
      mixtures.push(module);
      await putCurvature(put, module, curvature);
    },
    async finish({ blockChange, sensitivity, functional, orders = new Map(), routings = new Map() }, windows) {
      const windowLength = windows[0]?.length ?? 0;
      const tokens = Int32Array.from(windows.flatMap((window) => [...window]));
      await put.integers(MODEL_TENSORS.windows, [windows.length, windowLength], tokens);
      for (const [name, values] of Object.entries({ blockChange, sensitivity }))
        if (values) await put.doubles(MODEL_TENSORS[name as 'blockChange'], [values.length], values);
      for (const [module, found] of functional) await putFunctions(put, module, found);
      for (const [module, order] of orders) await putExperts(put, module, order);
      for (const [module, routing] of routings) await putRouting(put, module, routing);
      return {
        modules: measured.map((module) => describeModule(module, functional.get(module))),
        experts: mixtures.map((module) => describeMixture(module, orders.get(module), routings.get(module))),
        tensors,
      };
    },
  };
}

interface Put {
  floats(name: string, dims: readonly number[], values: Float32Array | Float64Array): Promise<void>;
  doubles(name: string, dims: readonly number[], values: Float64Array): Promise<void>;
  integers(name: string, dims: readonly number[], values: Int32Array): Promise<void>;
}

async function putSums(put: Put, of: string, { mean, variance, gram }: ChannelStatistics): Promise<void> {
  const names = sumNames(of);
  const size = mean.length;
  await put.doubles(names.mean, [size], mean);
  await put.doubles(names.variance, [size], variance);
  if (gram === undefined) return;
  const covariance = packTriangle(size, (row, column) => gram[row * size + column]! - mean[row]! * mean[column]!);
  await put.floats(names.covariance, [covariance.length], covariance);
}

async function putCurvature(put: Put, module: PrunableModule, curvature: Float32Array | undefined): Promise<void> {
  if (curvature === undefined) return;
  const { outputCount: size } = module.output;
  const triangle = packTriangle(size, (row, column) => curvature[row * size + column]!);
  await put.floats(tensorNames(module).curvature, [triangle.length], triangle);
}

async function putExperts(
  put: Put,
  module: PrunableModule,
  { scores, costs, neurons }: ModuleRemovalOrder,
): Promise<void> {
  const names = tensorNames(module);
  await put.doubles(names.expertScores, [scores.length], scores);
  await put.doubles(names.expertCosts, [costs.length], costs);
  if (neurons === undefined) return;
  const dims = [module.unitCount, module.neurons!.unitCount];
  await put.doubles(names.neuronScores, dims, neurons.scores);
  await put.doubles(names.neuronCosts, dims, neurons.costs);
}

async function putRouting(put: Put, module: PrunableModule, { contexts, tokens }: MixtureRouting): Promise<void> {
  await putContexts(put, module, contexts);
  await put.integers(tensorNames(module).routing, [contexts.contextCount, module.unitCount], tokens);
}

/** Context of every token, and typical tokens. */
async function putContexts(
  put: Put,
  module: PrunableModule,
  { contextCount, contextOfToken, typicalTokens }: MixtureRouting['contexts'],
): Promise<void> {
  const names = tensorNames(module);
  const typicalCount = mostTypical({ typicalTokens });
  const typical = new Int32Array(contextCount * typicalCount).fill(-1);
  typicalTokens.forEach((tokens, context) => {
    typical.set(tokens, context * typicalCount);
  });
  await put.integers(names.contextOfToken, [contextOfToken.length], contextOfToken);
  await put.integers(names.typicalTokens, [contextCount, typicalCount], typical);
}

async function putFunctions(
  put: Put,
  module: PrunableModule,
  { contexts, groups, affinity }: FunctionalModule,
): Promise<void> {
  const names = tensorNames(module);
  const { pca, centers, contextCount } = contexts;
  const groupOf = new Int32Array(module.unitCount).fill(-1);
  groups.functions.forEach((units, group) => {
    for (const unit of units) groupOf[unit] = group;
  });
  await put.floats(names.affinity, [contextCount, module.unitCount], affinity);
  await put.integers(names.groups, [module.unitCount], groupOf);
  await put.doubles(names.centers, [contextCount, pca.componentCount], centers);
  await putContexts(put, module, contexts);
  await put.doubles(names.pcaMean, [pca.size], pca.mean);
  await put.floats(names.pcaComponents, [pca.size, pca.componentCount], pca.components);
  await put.doubles(names.pcaVariances, [pca.componentCount], pca.variances);
}

function describeModule({ index, block, kind }: PrunableModule, found: FunctionalModule | undefined): SavedModule {
  if (found === undefined) return { index, block, kind };
  const { feature, pca, contextCount } = found.contexts;
  const contexts = {
    feature,
    featureCount: pca.size,
    componentCount: pca.componentCount,
    contextCount,
    typicalCount: mostTypical(found.contexts),
  };
  return { index, block, kind, contexts };
}

function describeMixture(
  { index, block, kind }: PrunableModule,
  order: ModuleRemovalOrder | undefined,
  routing: MixtureRouting | undefined,
): SavedMixture {
  const contexts = routing && {
    contextCount: routing.contexts.contextCount,
    typicalCount: mostTypical(routing.contexts),
  };
  return {
    ...{ index, block, kind, neurons: order?.neurons !== undefined },
    ...(order === undefined && { ordered: false }),
    ...(contexts && { contexts }),
  };
}

const mostTypical = ({ typicalTokens }: Pick<MixtureRouting['contexts'], 'typicalTokens'>): number =>
  Math.max(0, ...typicalTokens.map(({ length }) => length));
