import type { TensorProto } from 'onnx-buf';
import { freeBytes } from '../free-bytes.js';
import { makeInitializer } from '../graph/build.js';
import { encodeDetached } from '../onnx/encode-model.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { compileInPieces, type PiecesOptions } from './compile-in-pieces.js';
import type { Engine, Session, SessionOptions } from './engine.js';

/** Compiles an entire model with its weights from memory, for engines that know no files. @throws EngineError */
export function compileModel(engine: Engine, model: OnnxModel): Promise<Session> {
  const compile = (part: OnnxModel) => compileAtOnce(engine, part);
  return engine.copiesInputs ? compileInPieces(model, compile) : compile(model);
}

/**
 * Compiles a model that does not fit in memory: every run opens its blocks one after the other, which reads all weights again.
 * @throws EngineError
 */
export function compileBlockByBlock(
  engine: Engine,
  model: OnnxModel,
  { signal }: Pick<PiecesOptions, 'signal'> = {},
): Promise<Session> {
  const compile = (part: OnnxModel) => compileAtOnce(engine, part, { isBrief: true });
  return compileInPieces(model, compile, { reopens: true, signal });
}

async function compileAtOnce(
  engine: Engine,
  model: OnnxModel,
  options?: Pick<SessionOptions, 'isBrief'>,
): Promise<Session> {
  const graph = { ...model.proto.graph!, initializer: await readInitializers(model) };
  const { bytes, weights } = encodeDetached({ ...model.proto, graph });
  const session = await engine.load(bytes, { ...options, weights });
  const free = () =>
    freeBytes(...graph.initializer.filter(({ name }) => model.weights.has(name)).map(({ rawData }) => rawData));
  if (engine.copiesInputs) {
    free();
    return session;
  }
  return {
    ...session,
    async release() {
      await session.release();
      free();
    },
  };
}

/** All initializers of a model, with their payloads. */
export function readInitializers({ proto, weights }: OnnxModel): Promise<TensorProto[]> {
  return Promise.all(
    proto.graph!.initializer.map(async (tensor) => {
      const handle = weights.get(tensor.name);
      return handle ? makeInitializer(tensor.name, handle.dataType, handle.dims, await handle.read()) : tensor;
    }),
  );
}
