import { UnsupportedModelError } from '../errors.js';
import { findEmbeddingInput } from '../onnx/model-inputs.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { traceLogits } from './trace-logits.js';
import { traceTokenIds } from './trace-token-ids.js';
import { checkReaders, startTracing, type VocabularyTrace } from './vocabulary-trace.js';

/** Role of a graph for the vocabulary. */
export type GraphPart =
  /** Reads ids or embeddings, and returns logits. */
  | 'decoder'
  /** Reads ids, and returns embeddings. */
  | 'embedding';

/**
 * Finds the parts of a graph that depend on the vocabulary: tables for lookups of ids, also those per layer; the LM head and
 * the nodes after it, quantised or not; and constants that ids are compared with.
 * @param model As in its file, not dequantised.
 * @throws UnsupportedModelError naming a node that cannot be followed
 */
export async function traceVocabulary(model: OnnxModel, part: GraphPart): Promise<VocabularyTrace> {
  const tracing = startTracing(model);
  const lookupRows = await traceTokenIds(tracing);
  const inputs = model.proto.graph!.input.filter(({ name }) => !model.weights.has(name));
  if (lookupRows === undefined && (part === 'embedding' || findEmbeddingInput(inputs) === undefined))
    throw new UnsupportedModelError(
      'found no lookup by input_ids, so that the vocabulary cannot be trimmed in this export',
    );
  const headRows = part === 'decoder' ? await traceLogits(tracing) : undefined;
  const { main } = tracing.scopes;
  const { tables, constants, literals, counted, sized } = tracing;
  const computed = sized.filter(({ axis }) => axis >= 0);
  checkReaders(
    tracing,
    [...[...tables.keys()].map((name) => ({ scope: main, name })), ...computed],
    'a table of token rows',
  );
  return { tables, constants, literals, counted, sized, headRows, lookupRows };
}
