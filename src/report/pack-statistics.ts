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

/** Packs statistics for saving, module by module: numbers as tensors, shapes as JSON. */
export interface StatisticsPacker extends StatisticsSink {
  /** Packs measurements of the entire model, and returns all. */
  finish(dense: DenseMeasures, windows: readonly Int32Array[]): Promise<PackedStatistics>;
}

export interface PackedStatistics {
  readonly modules: readonly SavedModule[];
  readonly experts: readonly SavedMixture[];
  readonly tensors: TensorMap;
}

/** @param store Stores each tensor at once, since all of them together do not fit in memory. */
export function createStatisticsPacker(store: StoreTensor): StatisticsPacker {
  const tensors = new Map<string, TensorHandle>();
  const measured: PrunableModule[] = [];
  const mixtures: PrunableModule[] = [];
  const writer = {
    floats: (name: string, dims: readonly number[], values: Float32Array | Float64Array) =>
      storeNamed(name, { dataType: TENSOR_TYPES.float, dims }, encodeFloats(TENSOR_TYPES.float, values)),
    doubles: (name: string, dims: readonly number[], values: Float64Array) =>
      storeNamed(name, { dataType: TENSOR_TYPES.double, dims }, encodeFloats(TENSOR_TYPES.double, values)),
    integers: (name: string, dims: readonly number[], values: Int32Array) =>
      storeNamed(name, { dataType: TENSOR_TYPES.int, dims }, new Uint8Array(values.slice().buffer)),
  };
  const storeNamed = async (...[name, shape, bytes]: [string, ...Parameters<StoreTensor>]) => {
    tensors.set(name, await store(shape, bytes));
  };
  return {
    async addModule({ module, whole, groups = [], curvature }) {
      const names = tensorNames(module);
      measured.push(module);
      await writeSums(writer, names.sumsOf(), whole);
      for (const [group, statistics] of groups.entries()) await writeSums(writer, names.sumsOf(group), statistics);
      await writeCurvature(writer, module, curvature);
    },
    async addMixture(module, curvature) {
      mixtures.push(module);
      await writeCurvature(writer, module, curvature);
    },
    async finish({ blockChange, sensitivity, functional, orders = new Map(), routings = new Map() }, windows) {
      const windowLength = windows[0]?.length ?? 0;
      const tokens = Int32Array.from(windows.flatMap((window) => [...window]));
      await writer.integers(MODEL_TENSORS.windows, [windows.length, windowLength], tokens);
      for (const [name, values] of Object.entries({ blockChange, sensitivity }))
        if (values) await writer.doubles(MODEL_TENSORS[name as 'blockChange'], [values.length], values);
      for (const [module, found] of functional) await writeFunctions(writer, module, found);
      for (const [module, order] of orders) await writeExperts(writer, module, order);
      for (const [module, routing] of routings) await writeRouting(writer, module, routing);
      return {
        modules: measured.map((module) => describeModule(module, functional.get(module))),
        experts: mixtures.map((module) => describeMixture(module, orders.get(module), routings.get(module))),
        tensors,
      };
    },
  };
}

interface Writer {
  floats(name: string, dims: readonly number[], values: Float32Array | Float64Array): Promise<void>;
  doubles(name: string, dims: readonly number[], values: Float64Array): Promise<void>;
  integers(name: string, dims: readonly number[], values: Int32Array): Promise<void>;
}

async function writeSums(writer: Writer, of: string, { mean, variance, gram }: ChannelStatistics): Promise<void> {
  const names = sumNames(of);
  const size = mean.length;
  await writer.doubles(names.mean, [size], mean);
  await writer.doubles(names.variance, [size], variance);
  if (gram === undefined) return;
  const covariance = packTriangle(size, (row, column) => gram[row * size + column]! - mean[row]! * mean[column]!);
  await writer.floats(names.covariance, [covariance.length], covariance);
}

async function writeCurvature(
  writer: Writer,
  module: PrunableModule,
  curvature: Float32Array | undefined,
): Promise<void> {
  if (curvature === undefined) return;
  const { outputCount: size } = module.output;
  const triangle = packTriangle(size, (row, column) => curvature[row * size + column]!);
  await writer.floats(tensorNames(module).curvature, [triangle.length], triangle);
}

async function writeExperts(
  writer: Writer,
  module: PrunableModule,
  { scores, costs, neurons }: ModuleRemovalOrder,
): Promise<void> {
  const names = tensorNames(module);
  await writer.doubles(names.expertScores, [scores.length], scores);
  await writer.doubles(names.expertCosts, [costs.length], costs);
  if (neurons === undefined) return;
  const dims = [module.unitCount, module.neurons!.unitCount];
  await writer.doubles(names.neuronScores, dims, neurons.scores);
  await writer.doubles(names.neuronCosts, dims, neurons.costs);
}

async function writeRouting(
  writer: Writer,
  module: PrunableModule,
  { contexts, tokens }: MixtureRouting,
): Promise<void> {
  await writeContexts(writer, module, contexts);
  await writer.integers(tensorNames(module).routing, [contexts.contextCount, module.unitCount], tokens);
}

/** Context of every token, and typical tokens. */
async function writeContexts(
  writer: Writer,
  module: PrunableModule,
  { contextCount, contextOfToken, typicalTokens }: MixtureRouting['contexts'],
): Promise<void> {
  const names = tensorNames(module);
  const typicalCount = countTypical({ typicalTokens });
  const typical = new Int32Array(contextCount * typicalCount).fill(-1);
  typicalTokens.forEach((tokens, context) => {
    typical.set(tokens, context * typicalCount);
  });
  await writer.integers(names.contextOfToken, [contextOfToken.length], contextOfToken);
  await writer.integers(names.typicalTokens, [contextCount, typicalCount], typical);
}

async function writeFunctions(
  writer: Writer,
  module: PrunableModule,
  { contexts, groups, affinity }: FunctionalModule,
): Promise<void> {
  const names = tensorNames(module);
  const { pca, centers, contextCount } = contexts;
  const groupOf = new Int32Array(module.unitCount).fill(-1);
  groups.functions.forEach((units, group) => {
    for (const unit of units) groupOf[unit] = group;
  });
  await writer.floats(names.affinity, [contextCount, module.unitCount], affinity);
  await writer.integers(names.groups, [module.unitCount], groupOf);
  await writer.doubles(names.centers, [contextCount, pca.componentCount], centers);
  await writeContexts(writer, module, contexts);
  await writer.doubles(names.pcaMean, [pca.size], pca.mean);
  await writer.floats(names.pcaComponents, [pca.size, pca.componentCount], pca.components);
  await writer.doubles(names.pcaVariances, [pca.componentCount], pca.variances);
}

function describeModule({ index, block, kind }: PrunableModule, found: FunctionalModule | undefined): SavedModule {
  if (found === undefined) return { index, block, kind };
  const { feature, pca, contextCount } = found.contexts;
  const contexts = {
    feature,
    featureCount: pca.size,
    componentCount: pca.componentCount,
    contextCount,
    typicalCount: countTypical(found.contexts),
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
    typicalCount: countTypical(routing.contexts),
  };
  return {
    index,
    block,
    kind,
    neurons: order?.neurons !== undefined,
    ...(order === undefined && { ordered: false }),
    ...(contexts && { contexts }),
  };
}

const countTypical = ({ typicalTokens }: Pick<MixtureRouting['contexts'], 'typicalTokens'>): number =>
  Math.max(0, ...typicalTokens.map(({ length }) => length));
