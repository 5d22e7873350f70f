import { parametersOf } from '../allocation/allocation.js';
import type { ModuleKind, PrunableModule, Unrecognised } from '../architecture/layout.js';
import type { ChannelTrace } from '../architecture/trace-channels.js';
import { sum } from '../linalg/sum.js';
import { findDataType } from '../onnx/data-types.js';
import { withoutEmbeddingPrefix } from '../onnx/join-embedding.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';

/** The parts of a model and which can be pruned, as plain data. */
export interface ModelDescription {
  readonly model: string;
  readonly format: {
    readonly opset: number;
    /** Type of most weights in the model's file, in ONNX's words: `uint8` where codes are packed. */
    readonly dataType: string;
    /** Bytes of all weights in the model's file. */
    readonly bytes: number;
    readonly external: boolean;
  };
  /** Path of the embedding model that runs before the decoder; figures exclude it. Absent for a decoder that reads token ids. */
  readonly embeddings?: string;
  readonly hiddenSize: number;
  readonly vocabularySize: number;
  readonly parameters: { readonly total: number; readonly prunable: number };
  /** Bytes of the tables of per-layer embeddings, which are not pruned (Gemma 3n and 4). Absent without them. */
  readonly perLayerEmbeddingBytes?: number;
  readonly blocks: readonly BlockDescription[];
  readonly unrecognised: readonly Unrecognised[];
}

export interface BlockDescription {
  readonly index: number;
  readonly modules: readonly ModuleDescription[];
}

export interface ModuleDescription {
  readonly kind: ModuleKind;
  readonly description: string;
  /** Neurons of an FFN. */
  readonly width?: number;
  readonly heads?: number;
  readonly kvHeads?: number;
  /** Query and key heads of linear attention, each shared by several value heads. */
  readonly keyHeads?: number;
  readonly headSize?: number;
  /** Experts of a mixture, and the number of experts per token. */
  readonly experts?: number;
  readonly expertsPerToken?: number;
  /** Neurons of each expert; absent if they cannot be removed. */
  readonly neurons?: number;
  /** Bytes of a mixture's weights, packed or not, including its router. */
  readonly bytes?: number;
  readonly parameters: number;
}

/** Describes an analysed model. @param name Model as given by the user. */
export function describeModel(name: string, model: OnnxModel, { detected }: AnalysedModel): ModelDescription {
  const { layout } = detected;
  const bytesByType = new Map<number, number>();
  const { weights } = model.coded ?? withoutEmbeddingPrefix(model);
  for (const { dataType, byteLength } of weights.values()) {
    bytesByType.set(dataType, (bytesByType.get(dataType) ?? 0) + byteLength);
  }
  const [largest] = [...bytesByType].sort((a, b) => b[1] - a[1]);
  const opset = model.proto.opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx');
  return {
    model: name,
    format: {
      opset: Number(opset?.version ?? 0n),
      dataType: findDataType(largest?.[0] ?? 0)?.name ?? 'unknown',
      bytes: sum(bytesByType.values()),
      external: model.storage?.kind === 'external',
    },
    hiddenSize: layout.hiddenSize,
    vocabularySize: layout.vocabularySize,
    parameters: {
      total: layout.parameterCount,
      prunable: parametersOf(layout.modules),
    },
    ...(layout.perLayerTables.length > 0 && {
      perLayerEmbeddingBytes: layout.perLayerTables.reduce(
        (sum, name) => sum + (model.weights.get(name)?.byteLength ?? 0),
        0,
      ),
    }),
    blocks: Array.from({ length: layout.blockCount }, (_, index) => ({
      index,
      modules: layout.modules
        .filter(({ block }) => block === index)
        .map((module) => describeModule(module, () => bytesOf(model, module, detected.traces[module.index]!))),
    })),
    unrecognised: layout.unrecognised,
  };
}

function describeModule(module: PrunableModule, countBytes: () => number): ModuleDescription {
  const { kind, description, parameterCount } = module;
  return { kind, description, ...describeSize(module, countBytes), parameters: parameterCount };
}

function describeSize(module: PrunableModule, countBytes: () => number): Partial<ModuleDescription> {
  const { kind, attentionType, unitCount, kvHeadCount, headsPerUnit = 1, unitSize, expertsPerToken, neurons } = module;
  if (kind === 'ffn') return { width: unitCount };
  if (kind === 'experts') {
    const width = neurons && { neurons: neurons.unitCount * neurons.unitSize };
    return { experts: unitCount, expertsPerToken: expertsPerToken!, ...width, bytes: countBytes() };
  }
  return {
    heads: unitCount * headsPerUnit,
    ...(attentionType !== 'shared' && {
      [attentionType === 'linear' ? 'keyHeads' : 'kvHeads']: kvHeadCount ?? unitCount,
    }),
    headSize: unitSize / headsPerUnit,
  };
}

/** Bytes of all weights of a mixture of experts. */
const bytesOf = ({ weights }: OnnxModel, { unfusedExperts }: PrunableModule, { external }: ChannelTrace): number =>
  [...external, ...(unfusedExperts?.weights ?? [])].reduce(
    (sum, name) => sum + (weights.get(name)?.byteLength ?? 0),
    0,
  );
