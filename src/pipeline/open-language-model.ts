import type { GraphProto } from 'onnx-buf';
import type { LanguageModel } from '../evaluation/language-model.js';
import { createLanguageModel } from '../evaluation/session-language-model.js';
import { findEmbeddingInput } from '../onnx/model-inputs.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { outputAddedCache } from '../onnx/output-added-cache.js';
import { shareHeads } from '../onnx/share-heads.js';
import type { JobControl } from '../progress.js';
import { compileBlockByBlock, compileInPlace, compileModel } from '../runtime/compile-model.js';
import type { Engine, Session } from '../runtime/engine.js';
import { lowerOperators } from '../runtime/lower-for-run.js';
import { prefixEmbedding } from '../runtime/prefix-embedding.js';
import { refuseCrashing } from '../runtime/refuse-crashing.js';
import { explainFirstRun, refuseUnrunnable } from '../runtime/refuse-unrunnable.js';
import { cacheSizes, type ModelFolder, modelPath } from '../storage/model-folder.js';
import { explainTooLarge } from './refuse-too-large.js';

interface LanguageModelUse extends Pick<JobControl, 'signal'> {
  /**
   * Whether it generates text: an optimized graph halves the time, but differs from the file that users open. Default
   * false.
   */
  readonly generates?: boolean;
}

/**
 * Compiles a folder's entire model: by its path, or with unsupported operators lowered. The caller releases it. A model
 * that does not fit in memory is opened block by block in every run; the signal can abort between blocks.
 * @throws EngineError; UnsupportedModelError for a model that cannot be run, or reads embeddings without a known
 *   embedding model.
 */
export async function openLanguageModel(
  engine: Engine,
  folder: ModelFolder,
  { generates = false, signal }: LanguageModelUse = {},
): Promise<LanguageModel> {
  const model = await folder.load();
  await refuseCrashing(model);
  const session = await openDecoder(engine, folder, { model, generates, signal }).catch((error) => {
    throw refuseUnrunnable(error, { engine, model });
  });
  const explained = explainFirstRun(session, { engine, model });
  return createLanguageModel({ engine, session: explained, ...cacheSizes(folder) });
}

/** Opens a folder's entire model for an action, and releases it. @see openLanguageModel */
export async function withLanguageModel<T>(
  engine: Engine,
  folder: ModelFolder,
  use: LanguageModelUse,
  action: (model: LanguageModel) => Promise<T>,
): Promise<T> {
  const model = await openLanguageModel(engine, folder, use);
  try {
    return await action(model);
  } finally {
    await model.release();
  }
}

async function openDecoder(
  engine: Engine,
  folder: ModelFolder,
  { model, generates, signal }: LanguageModelUse & { readonly model: OnnxModel },
): Promise<Session> {
  if ((await explainTooLarge(engine, folder)) !== undefined)
    return compileBlockByBlock(engine, changeGraph(model.coded ?? model, lower), { signal });
  // Merged decoders, and decoders with an embedding model, are opened unchanged.
  const isOptimized = generates && model.noPastBranch === undefined && model.embeddingPrefix === undefined;
  const changed = isOptimized ? changeGraph(model.coded ?? model, optimizeForGeneration) : changeGraph(model, lower);
  const { node } = changed.proto.graph!;
  const isUnchanged = !isOptimized && node.every((each, at) => each === model.proto.graph!.node[at]);
  return isUnchanged ? openSession(engine, folder) : compileInPlace(engine, changed);
}

const changeGraph = (model: OnnxModel, change: (graph: GraphProto) => GraphProto): OnnxModel => ({
  ...model,
  proto: { ...model.proto, graph: change(model.proto.graph!) },
});

const lower = (graph: GraphProto): GraphProto => ({ ...graph, node: lowerOperators(graph.node, graph) });

/** Optimizes the graph for generation, with the fewest copies of the KV cache. */
const optimizeForGeneration = (graph: GraphProto): GraphProto => shareHeads(outputAddedCache(lower(graph)));

/**
 * The session, opened by the file's path as users do, joined with the embedding model if needed. It is loaded from
 * memory where the runtime has no file access, or the model differs from its file.
 * @throws EngineError; UnsupportedModelError when it reads embeddings and no embedding model is known.
 */
export async function openSession(engine: Engine, folder: ModelFolder): Promise<Session> {
  if (folder.changed !== undefined) {
    const model = await folder.load();
    return compileInPlace(engine, (model.embeddingPrefix === undefined ? model.coded : undefined) ?? model);
  }
  const session = await engine.loadFile?.(modelPath(folder));
  if (session === undefined) return compileModel(engine, await folder.load());
  if (findEmbeddingInput(session.inputs) === undefined) return session;
  try {
    return await prefixEmbedding(engine, session, await folder.loadEmbeddings());
  } catch (error) {
    await session.release();
    throw error;
  }
}
