import type { TensorProto } from 'onnx-buf';
import { EngineError } from '../errors.js';
import { freeBytes } from '../free-bytes.js';
import { makeInitializer } from '../graph/build.js';
import { commonFolder, encodeDetached, encodePlaced } from '../onnx/encode-model.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { compileInPieces } from './compile-in-pieces.js';
import type { Engine, Session } from './engine.js';

/**
 * Compiles a whole model: with its weights from where they lie, as far as the engine knows files, else from memory.
 * @throws EngineError
 */
export async function compileModel(engine: Engine, model: OnnxModel): Promise<Session> {
  const folder = engine.loadFile && !engine.copiesInputs ? commonFolder(model) : undefined;
  if (folder !== undefined) {
    try {
      return await engine.load(await encodePlaced(model), { folder });
    } catch (error) {
      // ONNX Runtime refuses links that lead out of the folder, though nothing is wrong with the weights.
      if (!(error instanceof EngineError)) throw error;
    }
  }
  const compile = (part: OnnxModel) => compileWhole(engine, part);
  return engine.copiesInputs ? compileInPieces(model, compile) : compile(model);
}

async function compileWhole(engine: Engine, model: OnnxModel): Promise<Session> {
  const graph = { ...model.proto.graph!, initializer: await readInitializers(model) };
  const { bytes, weights } = encodeDetached({ ...model.proto, graph });
  const session = await engine.load(bytes, { weights });
  if (engine.copiesInputs)
    freeBytes(...graph.initializer.filter(({ name }) => model.weights.has(name)).map(({ rawData }) => rawData));
  return session;
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
