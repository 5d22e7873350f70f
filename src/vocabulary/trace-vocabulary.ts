import { UnsupportedModelError } from '../errors.js';
import { findEmbeddingInput } from '../onnx/model-inputs.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { traceLogits } from './trace-logits.js';
import { traceTokenIds } from './trace-token-ids.js';
import { checkReaders, startTracing, type VocabularyTrace } from './vocabulary-trace.js';

/** Role of a graph for the vocabulary. */
export type GraphPart =
  /** Reads ids, or embeddings in their place, and gives logits. */
  | 'decoder'
  /** Reads ids and gives embeddings. */
  | 'embedding';

/**
 * Finds where a graph, as its file has it, deals with the vocabulary: the tables that ids are looked up in, per-layer ones too, the LM
 * head with what lies behind it, quantised or not, and constants that ids are compared with.
 * @throws UnsupportedModelError naming the node that stands against it
 */
export async function traceVocabulary(model: OnnxModel, part: GraphPart): Promise<VocabularyTrace> {
  const tracing = startTracing(model);
  const lookupRows = await traceTokenIds(tracing);
  const inputs = model.proto.graph!.input.filter(({ name }) => !model.weights.has(name));
  if (lookupRows === undefined && (part === 'embedding' || findEmbeddingInput(inputs) === undefined))
    throw new UnsupportedModelError(
      'no table is looked up by input_ids, so that the vocabulary cannot be trimmed in this export',
    );
  const headRows = part === 'decoder' ? await traceLogits(tracing) : undefined;
  const { main } = tracing.scopes;
  const { tables, constants, literals, counted, sized } = tracing;
  const made = sized.filter(({ axis }) => axis >= 0);
  checkReaders(
    tracing,
    [...[...tables.keys()].map((name) => ({ scope: main, name })), ...made],
    'a table of token rows',
  );
  return { tables, constants, literals, counted, sized, headRows, lookupRows };
}
