import { fromBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema, type ValueInfoProto } from 'onnx-buf';
import { errorMessage } from '../error-message.js';
import { EngineError } from '../errors.js';
import { shorten } from '../printable.js';
import {
  type DeclaredValue,
  type Engine,
  type Session,
  type SessionOptions,
  type Tensor,
  type Tensors,
  type TensorType,
  typeOf,
} from './engine.js';
import { explainRefusal } from './explain-refusal.js';
import {
  findTooOld,
  type OrtModule,
  type OrtSession,
  type OrtSessionOptions,
  type OrtTensor,
  type OrtValueMetadata,
  ortVersion,
} from './ort-module.js';
import { trackTensor } from './tensor-memory.js';

export interface OrtEngineOptions {
  /** Execution providers in order of preference, in ONNX Runtime's names. Default `['cpu']`. */
  readonly executionProviders?: readonly string[];
  /** Intra-op threads; the rounding of sums depends on their number. Default 0: ONNX Runtime chooses. */
  readonly threads?: number;
  /** Whether idle threads spin, which is faster if each has its own core. Default true. */
  readonly spinning?: boolean;
}

/**
 * Creates an engine from an ONNX Runtime package, onnxruntime-node or onnxruntime-web, version 1.21 or newer. Before 1.22,
 * models are loaded only from bytes.
 * @throws EngineError for older versions.
 */
export function createOrtEngine(ort: OrtModule, options: OrtEngineOptions = {}): Engine {
  const { threads = 0, spinning = true } = options;
  const executionProviders = [...(options.executionProviders ?? ['cpu'])];
  const version = ortVersion(ort);
  const tooOld = findTooOld(version);
  if (tooOld !== undefined) throw new EngineError(`ONNX Runtime cannot be used: ${tooOld}`);
  const copiesInputs = ort.env?.versions.web !== undefined;
  const runtime: Runtime = { ort, version, arrays: arraysOf(ort) };
  const load = async (
    model: Uint8Array | string,
    { optimization = 'all', isBrief = false, keepsMemory = true, weights = new Map(), folder }: SessionOptions = {},
  ) => {
    const what = typeof model === 'string' ? model : 'a graph';
    const settings: OrtSessionOptions = {
      executionProviders,
      graphOptimizationLevel: optimization === 'none' ? 'disabled' : optimization,
      logSeverityLevel: 4,
      ...(!keepsMemory && { enableCpuMemArena: false, enableMemPattern: false }),
      ...(threads > 0 && { intraOpNumThreads: threads }),
      extra: {
        session: {
          ...(isBrief && { disable_prepacking: '1' }),
          ...(folder !== undefined && { model_external_initializers_file_folder_path: folder }),
          ...(!spinning && { intra_op: { allow_spinning: '0' } }),
        },
      },
      ...(weights.size > 0 && {
        externalData: Array.from(weights, ([path, data]) => ({ path, data: runtime.arrays.uint8(data) as Uint8Array })),
      }),
    };
    // The overloads of `create` take a path or bytes, never their union.
    const session = await attempt(runtime, `cannot load ${what} on ${executionProviders.join(', ')}`, () =>
      typeof model === 'string'
        ? ort.InferenceSession.create(model, settings)
        : ort.InferenceSession.create(runtime.arrays.uint8(model) as Uint8Array, settings),
    );
    if (!copiesInputs) HELD_WEIGHTS.set(session, weights);
    return wrapSession(runtime, session, declaredBy(session, model));
  };
  const hasMetadata = 'inputMetadata' in (ort.InferenceSession.prototype ?? {});
  return {
    name: `onnxruntime${version === undefined ? '' : ` ${version}`} (${executionProviders.join(', ')})`,
    version,
    executionProviders,
    ...(threads > 0 && { threads }),
    copiesInputs,
    load,
    ...(hasMetadata && { loadFile: load }),
  };
}

interface Runtime {
  readonly ort: OrtModule;
  readonly version: string | undefined;
  readonly arrays: HostArrays;
}

/** Keeps the weights of open sessions alive: ONNX Runtime does not document whether it keeps pointers to them. */
const HELD_WEIGHTS = new WeakMap<OrtSession, ReadonlyMap<string, Uint8Array>>();

interface Declared {
  readonly inputs: readonly DeclaredValue[];
  readonly outputs: readonly DeclaredValue[];
}

function declaredBy({ inputMetadata, outputMetadata }: OrtSession, model: Uint8Array | string): Declared {
  if (inputMetadata === undefined || outputMetadata === undefined) return readDeclaredValues(model as Uint8Array);
  return { inputs: inputMetadata.map(toDeclaredValue), outputs: outputMetadata.map(toDeclaredValue) };
}

function wrapSession(runtime: Runtime, session: OrtSession, declared: Declared): Session {
  const { ort, arrays } = runtime;
  return {
    ...declared,
    async run(feeds, fetches) {
      const results = await attempt(runtime, 'cannot run a graph', () => {
        const inputs: Record<string, OrtTensor> = {};
        for (const [name, { type, data, dims }] of Object.entries(feeds)) {
          inputs[name] = new ort.Tensor(type as never, arrays[type](data) as never, dims);
        }
        return fetches === undefined ? session.run(inputs) : session.run(inputs, [...fetches]);
      });
      return Object.fromEntries(Object.entries(results).map(([name, value]) => [name, toTensor(value)])) as Tensors;
    },
    async release() {
      await session.release();
      HELD_WEIGHTS.delete(session);
    },
  };
}

/** An open dim in WebAssembly: -1 as an unsigned integer. */
const UNSIGNED_OPEN = 2 ** 32 - 1;

function toDeclaredValue(value: OrtValueMetadata): DeclaredValue {
  if (!value.isTensor) return { name: value.name, type: 'sequence', dims: [] };
  const dims = value.shape.map((dim) => (dim === -1 || dim === UNSIGNED_OPEN ? '' : dim));
  return { name: value.name, type: value.type, dims };
}

function toTensor(value: OrtTensor): Tensor {
  const tensor = { type: value.type as TensorType, dims: value.dims, data: rawHalves(value) } as Tensor;
  trackTensor(tensor);
  return tensor;
}

/** Half-precision bits: tensors of an engine contain bits, and newer JavaScript runtimes return a Float16Array. */
function rawHalves({ type, data }: OrtTensor): unknown {
  if (type !== 'float16' || tagOf(data) === 'Uint16Array') return data;
  const view = data as ArrayBufferView<ArrayBuffer>;
  return new Uint16Array(view.buffer, view.byteOffset, view.byteLength / Uint16Array.BYTES_PER_ELEMENT);
}

/** Views of the same memory, of the classes that ONNX Runtime compares with. */
type HostArrays = Readonly<Record<TensorType, (data: ArrayBufferView) => ArrayBufferView>>;

type ArrayClass = new (buffer: ArrayBufferLike, byteOffset: number, length: number) => ArrayBufferView;

/**
 * ONNX Runtime compares the classes of typed arrays, and a test runner's sandbox has its own classes: an empty tensor shows
 * which ones ONNX Runtime uses.
 */
function arraysOf({ Tensor }: OrtModule): HostArrays {
  const viewAs = (type: string) => {
    const { constructor: Elements } = new Tensor(type as never, [] as never, [0]).data as { constructor: ArrayClass };
    return (data: ArrayBufferView) => {
      if (data.constructor === Elements) return data;
      return new Elements(data.buffer, data.byteOffset, (data as Uint8Array).length);
    };
  };
  return {
    float32: viewAs('float32'),
    float64: viewAs('float64'),
    // A float16 tensor cannot be created from a plain array; its bits are of the same class as uint16 elements.
    float16: viewAs('uint16'),
    int64: viewAs('int64'),
    int32: viewAs('int32'),
    uint8: viewAs('uint8'),
    int8: viewAs('int8'),
    bool: viewAs('bool'),
  };
}

/** `instanceof` without the realm. */
function tagOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice('[object '.length, -1);
}

async function attempt<T>({ version }: Runtime, what: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    const message = shorten(errorMessage(cause));
    const advice = explainRefusal(message, version);
    throw new EngineError(`ONNX Runtime ${what}: ${message}${advice === undefined ? '' : `\n${advice}`}`, { cause });
  }
}

/** Inputs and outputs that a serialized model declares, for runtimes whose sessions do not list them. */
function readDeclaredValues(model: Uint8Array): Declared {
  const { graph } = fromBinary(ModelProtoSchema, model);
  const weights = new Set(graph?.initializer.map(({ name }) => name));
  return {
    inputs: (graph?.input ?? []).filter(({ name }) => !weights.has(name)).map(fromValueInfo),
    outputs: (graph?.output ?? []).map(fromValueInfo),
  };
}

function fromValueInfo({ name, type }: ValueInfoProto): DeclaredValue {
  if (type?.value.case !== 'tensorType') return { name, type: 'sequence', dims: [] };
  const { elemType, shape } = type.value.value;
  const dims = (shape?.dim ?? []).map(({ value }) =>
    value.case === 'dimValue' ? Number(value.value) : (value.value ?? ''),
  );
  return { name, type: typeOf(elemType) ?? `data type ${elemType}`, dims };
}
