import { join } from 'node:path';
import type { LanguageModel } from '../evaluation/language-model.js';
import { createLanguageModel } from '../evaluation/session-language-model.js';
import { findEmbeddingInput } from '../graph/model-inputs.js';
import { compileModel } from '../runtime/compile-model.js';
import type { Engine, Session } from '../runtime/engine.js';
import { putEmbeddingInFront } from '../runtime/put-embedding-in-front.js';
import { headSize, type ModelFolder } from './model-folder.js';

/**
 * Compiles a folder's model as a whole, to be released by the caller.
 * @throws EngineError, UnsupportedModelError; OptionError when it reads embeddings and no embedding model is known.
 */
export async function openLanguageModel(engine: Engine, folder: ModelFolder): Promise<LanguageModel> {
  return createLanguageModel({ engine, session: await openSession(engine, folder), headSize: headSize(folder) });
}

/**
 * The session alone, opened by the path of the file as the model's users open it, behind its embedding model where it reads
 * embeddings. Where the runtime knows no files, the model is loaded from memory.
 * @throws EngineError, UnsupportedModelError; OptionError when it reads embeddings and no embedding model is known.
 */
export async function openSession(engine: Engine, folder: ModelFolder): Promise<Session> {
  const session = await engine.loadFile?.(join(folder.root, folder.modelFile));
  if (session === undefined) return compileModel(engine, await folder.load());
  if (findEmbeddingInput(session.inputs) === undefined) return session;
  try {
    return await putEmbeddingInFront(engine, session, await folder.loadEmbeddings());
  } catch (error) {
    await session.release();
    throw error;
  }
}
