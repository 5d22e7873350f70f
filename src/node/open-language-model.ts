import { join } from 'node:path';
import type { LanguageModel } from '../evaluation/language-model.js';
import { createLanguageModel } from '../evaluation/session-language-model.js';
import type { Engine, Session } from '../runtime/engine.js';
import { headSize, type ModelFolder } from './model-folder.js';

/** Compiles a folder's model as a whole, to be released by the caller. @throws EngineError, UnsupportedModelError */
export async function openLanguageModel(engine: Engine, folder: ModelFolder): Promise<LanguageModel> {
  return createLanguageModel({ engine, session: await openSession(engine, folder), headSize: headSize(folder) });
}

/** The session alone, opened by the path of the file as the model's users open it. @throws EngineError */
export function openSession(engine: Engine, { root, modelFile }: ModelFolder): Promise<Session> {
  return engine.loadFile!(join(root, modelFile));
}
