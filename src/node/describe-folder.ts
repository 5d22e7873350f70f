import type { JobControl } from '../progress.js';
import { describeModel, type ModelDescription } from '../report/describe-model.js';
import { analyseModel } from '../runtime/analyse-model.js';
import { runIsolated } from './isolate.js';
import { type EmbeddingsOption, openModelFolder } from './model-folder.js';
import { createNodeEngine, type EngineChoice } from './node-engine.js';

export interface DescribeRequest extends JobControl, EmbeddingsOption, EngineChoice {
  /** A folder in transformers.js or onnxruntime-genai layout, or an `.onnx` file. */
  readonly model: string;
}

/**
 * Looks at a model: its blocks, widths, heads, and what can be pruned; for the rest the reason, the node and the nearest
 * structure. No weight is read.
 * @throws OptionError, ModelFormatError, UnsupportedModelError
 */
export async function describe(request: DescribeRequest): Promise<ModelDescription> {
  if (request.isolate) return runIsolated('describe', request);
  const engine = await createNodeEngine(request);
  const folder = await openModelFolder(request.model, { embeddings: request.embeddings });
  try {
    const model = await folder.load();
    request.onProgress?.({ stage: 'analyse', done: 0, total: 1 });
    const analysed = await analyseModel(model, engine, request.signal);
    request.onProgress?.({ stage: 'analyse', done: 1, total: 1 });
    const description = describeModel(request.model, model, analysed);
    return model.front === undefined ? description : { ...description, embeddings: folder.embeddings! };
  } finally {
    await folder.close();
  }
}
