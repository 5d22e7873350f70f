import type { ModelProto, ValueInfoProto } from 'onnx-buf';

/**
 * A weight that is read only when a stage needs it. `read` returns the raw little-endian bytes in row-major order, a
 * new buffer on each call, which the caller may free; nothing is cached.
 */
export interface TensorHandle {
  /** ONNX `TensorProto.DataType` number (1 = float32, 10 = float16, 16 = bfloat16, 7 = int64 ...). */
  readonly dataType: number;
  readonly dims: readonly number[];
  /** Length of the raw bytes. */
  readonly byteLength: number;
  /** Bytes in raw layout, the entire tensor or `length` bytes from `offset`. @throws ModelFormatError when the source is shorter than declared. */
  read(range?: { readonly offset: number; readonly length: number }): Promise<Uint8Array<ArrayBuffer>>;
  /** File range that holds its bytes contiguously; absent if there is none. */
  readonly place?: FileLocation | undefined;
  /** The slice made by `sliceHandle`; absent: the entire tensor. */
  readonly cut?: TensorCut;
}

/** Position of bytes in a file. */
export interface FileLocation {
  readonly folder: string;
  readonly name: string;
  readonly offset: number;
}

/** Indices of one axis of a tensor, ascending. */
export interface TensorCut {
  readonly from: TensorHandle;
  readonly axis: number;
  readonly keep: Int32Array;
  /** Indices by tensor of a stack `[count, ..]`, as `sliceStack` cut it; `keep` is the first one's. */
  readonly each?: readonly Int32Array[];
}

/**
 * An ONNX model whose weights are handles.
 *
 * `proto.graph.initializer` keeps one entry per weight with its name, dims and data type but no payload; the payload is
 * `weights.get(name)`. Large tensors inside Constant nodes are hoisted to initializers on load, so that all weights are
 * initializers.
 */
export interface OnnxModel {
  readonly proto: ModelProto;
  readonly weights: Map<string, TensorHandle>;
  /** Storage of the weights in the source file; the default when saving. */
  readonly storage?: ModelStorage;
  /** Embedding model that was joined in front: it is run, but neither counted, pruned nor saved. */
  readonly embeddingPrefix?: EmbeddingPrefix;
  /** The model as in its file, where this one has dequantised weights. */
  readonly coded?: OnnxModel;
  /** Duplicate weights of its file, which are saved once. Absent: none. */
  readonly shared?: readonly SharedWeight[];
  /** The branch without past of a merged decoder, over the same weights; absent for other models. */
  readonly noPastBranch?: NoPastBranch;
}

/** A copy of another weight. */
export interface SharedWeight {
  readonly name: string;
  readonly byteLength: number;
}

/** The decoder without past, and the `If` of the merged model. */
export interface NoPastBranch {
  readonly model: OnnxModel;
  /** The merged model with empty branches. */
  readonly merged: OnnxModel;
}

/** Nodes and weights of an embedding model in front of a graph, and the graph without them. */
export interface EmbeddingPrefix {
  /** Prefix of the names of its nodes, values and weights. */
  readonly prefix: string;
  /** Storage of the weights in the source file. */
  readonly storage?: ModelStorage;
  /** Original inputs of the decoder. */
  readonly decoder: Pick<ModelProto, 'irVersion' | 'opsetImport'> & { readonly input: readonly ValueInfoProto[] };
}

/** Where a model's weights are stored: inside the protobuf, or in files next to it. */
export type ModelStorage =
  | { readonly kind: 'inline' }
  | {
      readonly kind: 'external';
      /** Files with weights, relative to the model file's folder, in order of first use. */
      readonly files: readonly string[];
      /** Weights of fewer bytes than this were inside the protobuf; 0 = all were outside, Infinity = none was. */
      readonly thresholdBytes: number;
    };
