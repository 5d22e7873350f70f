import { join } from 'node:path';
import type { LanguageModel } from '../evaluation/language-model.js';
import { createLanguageModel } from '../evaluation/session-language-model.js';
import { compileModel } from '../runtime/compile-model.js';
import type { Engine } from '../runtime/engine.js';
import type { ModelFolder } from './model-folder.js';

/** Compiles a folder's model as a whole, to be released by the caller. @throws EngineError, UnsupportedModelError */
export async function openLanguageModel(engine: Engine, folder: ModelFolder): Promise<LanguageModel> {
  const { root, modelFile, documents } = folder;
  const session = (await engine.loadFile?.(join(root, modelFile))) ?? (await compileModel(engine, await folder.load()));
  const headSize = documents['config.json']?.head_dim;
  return createLanguageModel({ engine, session, ...(typeof headSize === 'number' && { headSize }) });
}
