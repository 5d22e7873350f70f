import type { TensorProto } from 'onnx-buf';
import { freeBytes } from '../free-bytes.js';
import { makeInitializer } from '../graph/build.js';
import { encodeDetached } from '../onnx/encode-model.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { compileInPieces } from './compile-in-pieces.js';
import type { Engine, Session } from './engine.js';

/** Compiles a whole model with its weights from memory, for engines that know no files. @throws EngineError */
export function compileModel(engine: Engine, model: OnnxModel): Promise<Session> {
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
