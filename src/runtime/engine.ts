/** Element types of an engine's inputs and outputs, in ONNX Runtime's names. */
export interface TensorTypes {
  readonly float32: Float32Array;
  readonly float64: Float64Array;
  /** Raw half-precision bits. */
  readonly float16: Uint16Array;
  readonly int64: BigInt64Array;
  readonly int32: Int32Array;
  readonly uint8: Uint8Array;
  readonly int8: Int8Array;
  readonly bool: Uint8Array;
}

export type TensorType = keyof TensorTypes;

/** Typed array of each element type. */
export const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int64: BigInt64Array,
  int32: Int32Array,
  uint8: Uint8Array,
  int8: Int8Array,
  bool: Uint8Array,
} as const satisfies Readonly<Record<TensorType, unknown>>;

/** A dense tensor, row-major. */
export type Tensor = {
  readonly [T in TensorType]: { readonly type: T; readonly dims: readonly number[]; readonly data: TensorTypes[T] };
}[TensorType];

/** Tensors by value name. */
export type Tensors = Readonly<Record<string, Tensor>>;

export interface SessionOptions {
  /** `none` keeps every node (probing, gradient checks), `basic` fuses no nodes, `all` is fastest. Default `all`. */
  readonly optimization?: 'none' | 'basic' | 'all';
  /** Whether the graph runs so seldom that packing its weights for speed would take longer than it saves. Default false. */
  readonly isBrief?: boolean;
  /**
   * Whether the session keeps the memory of intermediate results for its next run: faster, but expensive where many sessions
   * are open. Default true.
   */
  readonly keepsMemory?: boolean;
  /**
   * External data of the graph, by location. It must not change until the session is released, or only until it is loaded if
   * the engine copies inputs.
   */
  readonly weights?: ReadonlyMap<string, Uint8Array> | undefined;
  /** Folder of the external data that is not in `weights`; only for engines with file access (`loadFile`). */
  readonly folder?: string | undefined;
}

/** Declaration of an input or output of a compiled graph; a symbolic dimension is its name, one without a name `''`. */
export interface DeclaredValue {
  readonly name: string;
  /** In ONNX Runtime's names; usually a `TensorType`, but a graph may declare others (`string`, `uint64`). */
  readonly type: string;
  readonly dims: readonly (number | string)[];
}

/** A compiled graph. */
export interface Session {
  readonly inputs: readonly DeclaredValue[];
  readonly outputs: readonly DeclaredValue[];
  /**
   * Runs the graph. `fetches` defaults to all outputs. The caller may release the results
   * (`releaseTensors`), which spares the garbage collector. @throws EngineError with ONNX Runtime's message.
   */
  run(feeds: Tensors, fetches?: readonly string[]): Promise<Tensors>;
  /** Frees the session's memory; it cannot be run again. */
  release(): Promise<void>;
}

/** Port to a runtime for ONNX graphs: onnxruntime-node, onnxruntime-web, or a test double. */
export interface Engine {
  readonly name: string;
  /** Version of the runtime, for reports. */
  readonly version?: string | undefined;
  /** Execution providers in order of preference, for reports. */
  readonly executionProviders?: readonly string[] | undefined;
  /** Intra-op threads, for reports. Absent: the runtime chooses. */
  readonly threads?: number | undefined;
  /**
   * Whether it copies feeds and weights into its own memory, as WebAssembly does: feeds then take twice their memory, and
   * weights can be freed once the graph is loaded. Default false.
   */
  readonly copiesInputs?: boolean | undefined;
  /** Compiles a serialized ModelProto of at most 2 GiB; its weights may be external data. @throws EngineError */
  load(model: Uint8Array, options?: SessionOptions): Promise<Session>;
  /**
   * Compiles a model file with its external data, by path (Node) or URL (browsers), without reading it into JavaScript:
   * for models beyond 2 GiB. Absent: no file access. @throws EngineError
   */
  loadFile?(path: string, options?: SessionOptions): Promise<Session>;
}

const TYPE_NUMBERS: Readonly<Record<TensorType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  float64: 11,
};

/** ONNX `TensorProto.DataType` number of an element type. */
export function dataTypeOf(type: TensorType): number {
  return TYPE_NUMBERS[type];
}

/** Element type of an ONNX `TensorProto.DataType` number; undefined for types that engines do not support. */
export function typeOf(dataType: number): TensorType | undefined {
  return (Object.keys(TYPE_NUMBERS) as TensorType[]).find((type) => TYPE_NUMBERS[type] === dataType);
}
