import type * as Ort from 'onnxruntime-common';
import { EngineError } from '../errors.js';
import type { Engine, Session, Tensor, Tensors, TensorType } from './engine.js';

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
  return {
    name: `onnxruntime (${executionProviders.join(', ')})`,
    async load(model, { optimization = 'all' } = {}) {
      const session = await attempt(`cannot load a graph on ${executionProviders.join(', ')}`, () =>
        ort.InferenceSession.create(model, {
          executionProviders,
          graphOptimizationLevel: optimization === 'all' ? 'all' : 'disabled',
          logSeverityLevel: 4,
        }),
      );
      return wrapSession(ort, session);
    },
  };
}

function wrapSession(ort: OrtModule, session: Ort.InferenceSession): Session {
  return {
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
    release: () => session.release(),
  };
}

function toTensor(value: Ort.Tensor): Tensor {
  return { type: value.type as TensorType, dims: value.dims, data: value.data } as Tensor;
}

async function attempt<T>(what: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new EngineError(`ONNX Runtime ${what}: ${said}`, { cause });
  }
}
