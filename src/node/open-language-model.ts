import { join } from 'node:path';
import type { LanguageModel } from '../evaluation/language-model.js';
import { createLanguageModel } from '../evaluation/session-language-model.js';
import type { Engine } from '../runtime/engine.js';
import type { ModelFolder } from './model-folder.js';

/** Compiles a folder's model as a whole, to be released by the caller. @throws EngineError, UnsupportedModelError */
export async function openLanguageModel(
  engine: Engine,
  { root, modelFile, documents }: ModelFolder,
): Promise<LanguageModel> {
  const session = await engine.loadFile!(join(root, modelFile));
  const headSize = documents['config.json']?.head_dim;
  return createLanguageModel({ engine, session, ...(typeof headSize === 'number' && { headSize }) });
}
