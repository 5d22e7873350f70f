import type { LanguageModel } from '../evaluation/language-model.js';
import { createLanguageModel } from '../evaluation/session-language-model.js';
import { findEmbeddingInput } from '../graph/model-inputs.js';
import { compileModel } from '../runtime/compile-model.js';
import type { Engine, Session } from '../runtime/engine.js';
import { lowerOperators } from '../runtime/lower-for-run.js';
import { putEmbeddingInFront } from '../runtime/put-embedding-in-front.js';
import { refuseCrashing } from '../runtime/refuse-crashing.js';
import { refuseUnrunnable, type UnrunnableModel } from '../runtime/refuse-unrunnable.js';
import { cacheSizes, type ModelFolder, modelPath } from '../storage/model-folder.js';

/**
 * Compiles a folder's model as a whole, to be released by the caller: with operators written out that ONNX Runtime cannot run
 * in the form they have, or else by its path.
 * @throws EngineError; UnsupportedModelError for a model that cannot be run, or reads embeddings where no embedding model is
 * known.
 */
export async function openLanguageModel(engine: Engine, folder: ModelFolder): Promise<LanguageModel> {
  const model = await folder.load();
  await refuseCrashing(model);
  const graph = model.proto.graph!;
  const node = lowerOperators(graph.node, graph);
  const isAsItWas = node.every((lowered, at) => lowered === graph.node[at]);
  const open = () =>
    isAsItWas
      ? openSession(engine, folder)
      : compileModel(engine, { ...model, proto: { ...model.proto, graph: { ...graph, node } } });
  const session = await open().catch((error) => {
    throw refuseUnrunnable(error, { engine, model });
  });
  const explained = explainFirstRun(session, { engine, model });
  return createLanguageModel({ engine, session: explained, ...cacheSizes(folder) });
}

/**
 * The session alone, opened by the path of the file as the model's users open it, behind its embedding model where it reads
 * embeddings. Where the runtime knows no files, the model is loaded from memory.
 * @throws EngineError; UnsupportedModelError when it reads embeddings and no embedding model is known.
 */
export async function openSession(engine: Engine, folder: ModelFolder): Promise<Session> {
  const session = await engine.loadFile?.(modelPath(folder));
  if (session === undefined) return compileModel(engine, await folder.load());
  if (findEmbeddingInput(session.inputs) === undefined) return session;
  try {
    return await putEmbeddingInFront(engine, session, await folder.loadEmbeddings());
  } catch (error) {
    await session.release();
    throw error;
  }
}

/** Until a session has run, its errors speak of the model; later ones, of what is fed. */
function explainFirstRun(session: Session, unrunnable: UnrunnableModel): Session {
  let hasRun = false;
  return {
    ...session,
    async run(feeds, fetches) {
      try {
        const results = await session.run(feeds, fetches);
        hasRun = true;
        return results;
      } catch (error) {
        throw hasRun ? error : refuseUnrunnable(error, unrunnable);
      }
    },
  };
}
