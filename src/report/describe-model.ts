import type { PrunableModule, Unrecognised } from '../architecture/layout.js';
import { withoutFront } from '../graph/join-embedding.js';
import { findDataType } from '../onnx/data-types.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';

/** What a model is made of and which parts can be pruned, as plain data. */
export interface ModelDescription {
  readonly model: string;
  readonly format: {
    readonly opset: number;
    /** Type of most weights, in ONNX's words. */
    readonly dataType: string;
    /** Bytes of all weights. */
    readonly bytes: number;
    readonly external: boolean;
  };
  /** Path of the embedding model that is run in front; all figures leave it out. Absent for a decoder that reads token ids. */
  readonly embeddings?: string;
  readonly hiddenSize: number;
  readonly vocabularySize: number;
  readonly parameters: { readonly total: number; readonly prunable: number };
  /** Bytes of the tables of per-layer embeddings, which stay (Gemma 3n and 4). Absent for a model without. */
  readonly perLayerEmbeddingBytes?: number;
  readonly blocks: readonly BlockDescription[];
  readonly unrecognised: readonly Unrecognised[];
}

export interface BlockDescription {
  readonly index: number;
  readonly modules: readonly ModuleDescription[];
}

export interface ModuleDescription {
  readonly kind: 'ffn' | 'attention';
  readonly description: string;
  /** Neurons of an FFN. */
  readonly width?: number;
  readonly heads?: number;
  readonly kvHeads?: number;
  /** Heads of queries and keys of linear attention, each shared by as many value heads. */
  readonly keyHeads?: number;
  readonly headSize?: number;
  readonly parameters: number;
}

/** Describes an analysed model. @param name How the user called it. */
export function describeModel(name: string, model: OnnxModel, { detected }: AnalysedModel): ModelDescription {
  const { layout } = detected;
  const bytesByType = new Map<number, number>();
  for (const { dataType, byteLength } of withoutFront(model).weights.values()) {
    bytesByType.set(dataType, (bytesByType.get(dataType) ?? 0) + byteLength);
  }
  const [mostly] = [...bytesByType].sort((a, b) => b[1] - a[1]);
  const opset = model.proto.opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx');
  return {
    model: name,
    format: {
      opset: Number(opset?.version ?? 0n),
      dataType: findDataType(mostly?.[0] ?? 0)?.name ?? 'unknown',
      bytes: [...bytesByType.values()].reduce((sum, bytes) => sum + bytes, 0),
      external: model.storage?.kind === 'external',
    },
    hiddenSize: layout.hiddenSize,
    vocabularySize: layout.vocabularySize,
    parameters: {
      total: layout.parameterCount,
      prunable: layout.modules.reduce((sum, { parameterCount }) => sum + parameterCount, 0),
    },
    ...(layout.perLayerTables.length > 0 && {
      perLayerEmbeddingBytes: layout.perLayerTables.reduce(
        (sum, name) => sum + (model.weights.get(name)?.byteLength ?? 0),
        0,
      ),
    }),
    blocks: Array.from({ length: layout.blockCount }, (_, index) => ({
      index,
      modules: layout.modules.filter(({ block }) => block === index).map(describeModule),
    })),
    unrecognised: layout.unrecognised,
  };
}

function describeModule({
  kind,
  attentionType,
  description,
  unitCount,
  kvHeadCount,
  headsPerUnit = 1,
  unitSize,
  parameterCount,
}: PrunableModule): ModuleDescription {
  const size =
    kind === 'ffn'
      ? { width: unitCount }
      : {
          heads: unitCount * headsPerUnit,
          ...(attentionType !== 'shared' && {
            [attentionType === 'linear' ? 'keyHeads' : 'kvHeads']: kvHeadCount ?? unitCount,
          }),
          headSize: unitSize / headsPerUnit,
        };
  return { kind, description, ...size, parameters: parameterCount };
}
