import { join } from 'node:path';
import type { LanguageModel } from '../evaluation/language-model.js';
import { createLanguageModel } from '../evaluation/session-language-model.js';
import { findEmbeddingInput } from '../graph/model-inputs.js';
import type { Engine, Session } from '../runtime/engine.js';
import { putEmbeddingInFront } from '../runtime/put-embedding-in-front.js';
import { decoderConfig, type ModelFolder } from './model-folder.js';

/**
 * Compiles a folder's model as a whole, to be released by the caller.
 * @throws EngineError, UnsupportedModelError; OptionError when it reads embeddings and no embedding model is known.
 */
export async function openLanguageModel(engine: Engine, folder: ModelFolder): Promise<LanguageModel> {
  const { root, modelFile, documents } = folder;
  const session = await readingTokens(engine, folder, await engine.loadFile!(join(root, modelFile)));
  const headSize = decoderConfig(documents).head_dim;
  return createLanguageModel({ engine, session, ...(typeof headSize === 'number' && { headSize }) });
}

/** The session itself, or behind its embedding model where it reads embeddings. */
async function readingTokens(engine: Engine, folder: ModelFolder, session: Session): Promise<Session> {
  if (findEmbeddingInput(session.inputs) === undefined) return session;
  try {
    return await putEmbeddingInFront(engine, session, await folder.loadEmbeddings());
  } catch (error) {
    await session.release();
    throw error;
  }
}
