import { blockSpans, type PrunableModule } from '../architecture/layout.js';
import { METRICS } from '../importance/metrics.js';
import { sum } from '../linalg/sum.js';
import { triangleLength } from '../linalg/triangle.js';
import { findDataType } from '../onnx/data-types.js';
import { producerNode } from '../onnx/graph-index.js';
import { elementCount } from '../onnx/value.js';
import { expertTensors } from '../operators/experts.js';
import { countHeldOut, type ResolvedHealing } from '../options/healing.js';
import { learnsRounding, type ResolvedQuantisation } from '../options/quantisation.js';
import { type ResolvedOptions, readsTokens } from '../options.js';
import { countBackwardTokens } from '../prune/measure-dense/choose-backward-batches.js';
import { densePassKinds } from '../prune/measure-dense/measure-dense.js';
import { archivedStates, chooseStride } from '../prune/measure-dense/sparse-archive.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { fitsInMemory } from './store-factory.js';

/** Inputs of the estimates of disk space and memory. */
export interface ResourceRequest {
  /** The dense model. */
  readonly analysed: AnalysedModel;
  /** Options of the run. */
  readonly options: ResolvedOptions;
  /** Tokens of all calibration windows. */
  readonly tokenCount: number;
  /** Tokens of a window. */
  readonly windowLength: number;
  /** Bytes of the model's files. */
  readonly modelBytes: number;
  /** Lowest sparsity of the run's results. */
  readonly sparsity: number;
  /** Whether results are compared with the masked original. Default false. */
  readonly certifies?: boolean | undefined;
}

const FLOAT_BYTES = 4;
const DOUBLE_BYTES = 8;

/** Bytes of a store on disk: 0 if it fits in memory. */
const spilled = (bytes: number, blockCount = 1): number => (fitsInMemory(bytes, blockCount) ? 0 : bytes);

/**
 * Upper bound of the disk space of a pruning run's scratch files, in bytes: hidden states, block inputs for the backward pass,
 * rewritten weights with their copy in the journal, weights of the masked original, and scratch files of healing.
 */
export function estimateScratch(request: ResourceRequest): number {
  const { options } = request;
  const { heal } = options;
  return Math.ceil(estimatePruningScratch(request) + (heal === undefined ? 0 : estimateHealingScratch(request, heal)));
}

function estimatePruningScratch(request: ResourceRequest): number {
  const { analysed, options, tokenCount, modelBytes, sparsity, certifies = false } = request;
  const { layout } = analysed.detected;
  const modules = layout.modules.filter(({ kind }) => options.modules.has(kind));
  const bytesPerParameter = modelBytes / Math.max(1, layout.parameterCount);
  const outputWeights = sum(modules.map(({ output }) => output.inputCount * output.outputCount));
  const changed = options.inputSteps > 0 ? sum(modules.map(({ parameterCount }) => parameterCount)) : outputWeights;
  const rewritten = options.adapter.needs === 'gram' ? changed : 0;
  // Zeroed columns are a copy in addition to the changed weights.
  const masked = certifies ? (outputWeights + rewritten) * bytesPerParameter : 0;
  if (!readsTokens(options) || tokenCount === 0) return masked;
  const states = spilled(tokenCount * layout.hiddenSize * FLOAT_BYTES);
  const { forwards, backwards, sums, allBackwards } = densePassKinds(options);
  const outputCounts = modules.map(({ output }) => output.outputCount);
  const backwardTokens = countBackwardTokens(tokenCount, { allBackwards, outputCounts });
  const stateBytes = backwardTokens * layout.hiddenSize * FLOAT_BYTES;
  const spanCount = blockSpans(layout).length;
  const stride = chooseStride(spanCount, stateBytes, modelBytes);
  const archive = spilled(archivedStates(spanCount, stride) * stateBytes, spanCount);
  const { hasCurvature } = METRICS[options.metric];
  const curvatures = hasCurvature ? spilled(modules.length * layout.hiddenSize ** 2 * FLOAT_BYTES, modules.length) : 0;
  const triangles = sum(modules.map(({ output }) => triangleLength(output.inputCount))) * FLOAT_BYTES;
  const grams = sums && hasCurvature ? spilled(triangles, modules.length) : 0;
  const measuring = (forwards ? 2 * states : 0) + (backwards ? archive + states : 0) + grams;
  return curvatures + Math.max(measuring, 2 * states + 2 * rewritten * (1 - sparsity) * bytesPerParameter + masked);
}

/** Lists of the current and the best state: weights and two moments each. */
const TRAINING_LISTS = 6;
/** Copies of a checkpoint while it is replaced. */
const CHECKPOINTS = 2;

/**
 * Upper bound of the disk space of healing's scratch files, in bytes: both states of the trained weights, their gradients
 * and checkpoints, and hidden states.
 */
export function estimateHealingScratch(
  { analysed, windowLength, sparsity }: Pick<ResourceRequest, 'analysed' | 'windowLength' | 'sparsity'>,
  settings: ResolvedHealing,
): number {
  const { layout } = analysed.detected;
  const { trained, windowCount, windowsPerStep } = settings;
  const trainedOf = ({ kind, parameterCount, output }: PrunableModule) => {
    if (trained === 'outputs') return output.inputCount * output.outputCount;
    return trained === 'ffn' && kind === 'attention' ? 0 : parameterCount;
  };
  const listBytes = sum(layout.modules.map(trainedOf)) * (1 - sparsity) * FLOAT_BYTES;
  const windowBytes = windowLength * layout.hiddenSize * FLOAT_BYTES;
  const states = spilled((windowCount + countHeldOut(settings)) * windowBytes, 2);
  const archive = spilled((blockSpans(layout).length + 1) * windowsPerStep * windowBytes, 2);
  // Targets, inputs, and the states of the pruned model's own pass; the healed weights wait to be written.
  return (TRAINING_LISTS + 2) * spilled(listBytes, 2) + CHECKPOINTS * TRAINING_LISTS * listBytes + 3 * states + archive;
}

/** Float64 matrices of a module's channels in memory at once, by purpose. */
const MATRICES = { none: 0, scored: 3, ordered: 3, repaired: 4.5, rounded: 3.5 };
/** Base memory: runtime, library and the activations of a batch. */
const BASE_BYTES = 0.45 * 2 ** 30;
/** Float32 copies of a segment's weights: in the session, and packed. */
const COPIES = 2;
/** Copies of packed experts while ONNX Runtime opens their segment, and of the one expert that is unpacked, in float32. */
const PACKED_COPIES = 6;
const UNPACKED_COPIES = 4;

export interface MemoryRequest extends Pick<ResourceRequest, 'analysed' | 'options'> {
  /** Quantisation options: calibrated rounding needs further matrices. */
  readonly quantisation: ResolvedQuantisation;
  /** Bytes of a session of the entire model, if a run opens one, for generation, certificate or quality. Default 0. */
  readonly entireModelBytes?: number | undefined;
}

/**
 * Estimate of a run's peak memory in bytes: within a third for 1B to 7B models. The backward pass copies weights
 * twice; Gram matrices of function groups are small.
 */
export function estimateMemory({ analysed, options, quantisation, entireModelBytes = 0 }: MemoryRequest): number {
  const { layout } = analysed.detected;
  const modules = layout.modules.filter(({ kind }) => options.modules.has(kind));
  const widestOf = (some: readonly PrunableModule[]) => Math.max(0, ...some.map(({ output }) => output.inputCount));
  const { sums, backwards } = densePassKinds(options);
  const isGram = options.adapter.needs === 'gram';
  const use = options.inputSteps > 0 ? 'repaired' : isGram ? (sums ? 'ordered' : 'scored') : sums ? 'ordered' : 'none';
  const linears = layout.modules.filter(({ kind }) => kind !== 'experts');
  const { contextCount, sharedGroup } = options.grouping ?? { contextCount: 1, sharedGroup: false };
  const groupCount = contextCount + (sharedGroup ? 1 : 0);
  const matrices = Math.max(
    (MATRICES[use] * widestOf(modules) ** 2) / groupCount,
    learnsRounding(quantisation) ? MATRICES.rounded * Math.max(layout.hiddenSize, widestOf(linears)) ** 2 : 0,
  );
  const passBytes = openedBytes(analysed, backwards ? 2 * COPIES : COPIES);
  const solvingBytes = openedBytes(analysed, COPIES) + matrices * DOUBLE_BYTES;
  return BASE_BYTES + Math.max(passBytes, solvingBytes, entireModelBytes);
}

/** Memory of the weights of the heaviest segment that is opened. */
function openedBytes(analysed: AnalysedModel, copies: number): number {
  const { modules, vocabularySize, hiddenSize } = analysed.detected.layout;
  const ofModules = modules.map((module) => moduleBytes(analysed, module, copies));
  return Math.max(copies * FLOAT_BYTES * vocabularySize * hiddenSize, ...ofModules);
}

/** Memory of a module's weights while its segment is opened. Packed experts are unpacked one at a time. */
function moduleBytes(analysed: AnalysedModel, module: PrunableModule, copies: number): number {
  const { parameterCount, unitCount } = module;
  const packed = packedBytes(analysed, module);
  if (packed === undefined) return copies * FLOAT_BYTES * parameterCount;
  return PACKED_COPIES * packed + (UNPACKED_COPIES * FLOAT_BYTES * parameterCount) / unitCount;
}

/** Bytes of the experts' weights in a packed mixture; undefined for other modules. */
function packedBytes({ detected, facts }: AnalysedModel, { kind, output }: PrunableModule): number | undefined {
  const node = kind === 'experts' ? producerNode(detected.index, output.result) : undefined;
  if (node?.opType !== 'QMoE') return undefined;
  return sum(
    expertTensors(node).all.map((name) => {
      const { dims = [], dataType = 0 } = facts.first.get(name) ?? {};
      return (elementCount(dims) * (findDataType(dataType)?.bits ?? 0)) / 8;
    }),
  );
}
