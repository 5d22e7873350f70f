import type * as Ort from 'onnxruntime-common';
import { EngineError } from '../errors.js';
import type { DeclaredValue, Engine, Session, SessionOptions, Tensor, Tensors, TensorType } from './engine.js';
import { trackTensor } from './tensor-memory.js';

/** The part of an ONNX Runtime package that the engine uses; onnxruntime-node and onnxruntime-web both fit. */
export interface OrtModule {
  readonly InferenceSession: typeof Ort.InferenceSession;
  readonly Tensor: typeof Ort.Tensor;
}

export interface OrtEngineOptions {
  /** Execution providers in order of preference, in ONNX Runtime's names. Default `['cpu']`. */
  readonly executionProviders?: readonly string[];
}

/** Makes an engine of an ONNX Runtime package. */
export function createOrtEngine(ort: OrtModule, options: OrtEngineOptions = {}): Engine {
  const executionProviders = [...(options.executionProviders ?? ['cpu'])];
  const load = async (
    model: Uint8Array | string,
    { optimization = 'all', isBrief = false, weights = new Map() }: SessionOptions = {},
  ) => {
    const what = typeof model === 'string' ? model : 'a graph';
    const settings: Ort.InferenceSession.SessionOptions = {
      executionProviders,
      graphOptimizationLevel: optimization === 'none' ? 'disabled' : optimization,
      logSeverityLevel: 4,
      ...(isBrief && { extra: { session: { disable_prepacking: '1' } } }),
      ...(weights.size > 0 && { externalData: Array.from(weights, ([path, data]) => ({ path, data })) }),
    };
    // The overloads of `create` take a path or bytes, never their union.
    const session = await attempt(`cannot load ${what} on ${executionProviders.join(', ')}`, () =>
      typeof model === 'string'
        ? ort.InferenceSession.create(model, settings)
        : ort.InferenceSession.create(model, settings),
    );
    HELD_WEIGHTS.set(session, weights);
    return wrapSession(ort, session);
  };
  return { name: `onnxruntime (${executionProviders.join(', ')})`, load, loadFile: load };
}

/** Weights of sessions that live: ONNX Runtime does not say that it keeps no pointer to them. */
const HELD_WEIGHTS = new WeakMap<Ort.InferenceSession, ReadonlyMap<string, Uint8Array>>();

function wrapSession(ort: OrtModule, session: Ort.InferenceSession): Session {
  return {
    inputs: session.inputMetadata.map(toDeclaredValue),
    outputs: session.outputMetadata.map(toDeclaredValue),
    async run(feeds, fetches) {
      const inputs: Record<string, Ort.Tensor> = {};
      for (const [name, tensor] of Object.entries(feeds)) {
        inputs[name] = new ort.Tensor(tensor.type as 'float32', tensor.data as Float32Array, tensor.dims);
      }
      const results = await attempt('cannot run a graph', () =>
        fetches === undefined ? session.run(inputs) : session.run(inputs, [...fetches]),
      );
      return Object.fromEntries(Object.entries(results).map(([name, value]) => [name, toTensor(value)])) as Tensors;
    },
    async release() {
      await session.release();
      HELD_WEIGHTS.delete(session);
    },
  };
}

function toDeclaredValue(value: Ort.InferenceSession.ValueMetadata): DeclaredValue {
  if (!value.isTensor) return { name: value.name, type: 'sequence', dims: [] };
  const dims = value.shape.map((dim) => (typeof dim === 'number' && dim < 0 ? '' : dim));
  return { name: value.name, type: value.type, dims };
}

function toTensor(value: Ort.Tensor): Tensor {
  const tensor = { type: value.type as TensorType, dims: value.dims, data: rawHalves(value) } as Tensor;
  trackTensor(tensor);
  return tensor;
}

/** Half-precision bits: newer JavaScript hands out numbers (Float16Array), and the engine's border promises bits. */
function rawHalves({ type, data }: Ort.Tensor): unknown {
  if (type !== 'float16' || data instanceof Uint16Array) return data;
  const view: ArrayBufferView = data as Uint8Array;
  return new Uint16Array(view.buffer, view.byteOffset, view.byteLength / Uint16Array.BYTES_PER_ELEMENT);
}

async function attempt<T>(what: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new EngineError(`ONNX Runtime ${what}: ${said}`, { cause });
  }
}
