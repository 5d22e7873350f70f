import { EngineError } from '../errors.js';
import { commonFolder, encodePlaced } from '../onnx/encode-model.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { compileModel } from './compile-model.js';
import type { Engine, Session } from './engine.js';

/**
 * Compiles an entire model with its weights from the files that they lie in, as far as the engine knows files, else from memory.
 * @throws EngineError
 */
export async function compileInPlace(engine: Engine, model: OnnxModel): Promise<Session> {
  const folder = engine.loadFile && !engine.copiesInputs ? commonFolder(model) : undefined;
  if (folder === undefined) return compileModel(engine, model);
  try {
    return await engine.load(await encodePlaced(model), { folder });
  } catch (error) {
    // ONNX Runtime refuses links that lead out of the folder, though nothing is wrong with the weights.
    if (error instanceof EngineError) return compileModel(engine, model);
    throw error;
  }
}
