import type { GraphProto, ValueInfoProto } from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import { FLOAT16, FLOAT32, findDataType } from './data-types.js';
import { impliedHeadSize } from './head-size.js';

/** Role of an input of a decoder graph. */
export type InputRole =
  | 'tokens'
  | 'attentionMask'
  | 'positions'
  | 'cachePositions'
  | 'tokenTypes'
  | 'useCache'
  | 'logitsToKeep'
  | 'past'
  | 'state';

/** One declared input; a symbolic dimension is its name, one without a name `''`. */
export interface ModelInput {
  readonly name: string;
  readonly role: InputRole;
  /** ONNX `TensorProto.DataType` number. */
  readonly dataType: number;
  readonly dims: readonly (number | string)[];
  /** Capacity of a preallocated cache in tokens; absent: it grows. */
  readonly capacity?: number;
}

const TOKENS = /^input_ids$|^tokens$/;

/** Input of a decoder whose embedding table is in another file. */
const EMBEDDINGS = /^inputs?_embeds$/;

const ROLES: readonly { readonly pattern: RegExp; readonly role: InputRole }[] = [
  { pattern: TOKENS, role: 'tokens' },
  { pattern: /attention_mask$|^mask$/, role: 'attentionMask' },
  { pattern: /position_ids$/, role: 'positions' },
  { pattern: /cache_position$/, role: 'cachePositions' },
  { pattern: /token_type_ids$/, role: 'tokenTypes' },
  { pattern: /use_cache_branch$/, role: 'useCache' },
  { pattern: /logits_to_keep$/, role: 'logitsToKeep' },
  // State of a convolution or a recurrence, of fixed size.
  { pattern: /(^|[._])(conv|ssm|recurrent)([._]|$)/, role: 'state' },
  { pattern: /past|cache/, role: 'past' },
];

/** Role that an input's name says, if it is known. */
export const inputRole = (name: string): InputRole | undefined => ROLES.find(({ pattern }) => pattern.test(name))?.role;

/** The input for token ids. */
export function findTokenInput<T extends { readonly name: string }>(inputs: readonly T[]): T | undefined {
  return inputs.find(({ name }) => TOKENS.test(name));
}

/** The input for embeddings, in a graph without one for token ids. */
export function findEmbeddingInput<T extends { readonly name: string }>(inputs: readonly T[]): T | undefined {
  return findTokenInput(inputs) === undefined ? inputs.find(({ name }) => EMBEDDINGS.test(name)) : undefined;
}
/** Inputs from an encoder: its hidden states and mask, and the cross-attention cache. */
const FROM_ENCODER = /encoder|cross/;

/** Inputs of paged attention. */
const PAGED = /^block_table|^slot_mapping|cumulative_sequence_length/;

/** Largest product of an input's fixed sizes. */
const MAX_ELEMENTS = 2 ** 26;

const CACHE_TYPES: ReadonlySet<number> = new Set([FLOAT32, FLOAT16]);

/**
 * Determines the roles of a decoder graph's inputs.
 * @throws UnsupportedModelError for an input that no text decoder has (pixels, encoder states), naming it.
 */
export function readModelInputs(graph: GraphProto): ModelInput[] {
  const initializers = new Set(graph.initializer.map(({ name }) => name));
  const declared = graph.input.filter(({ name }) => !initializers.has(name));
  const fromEncoder = declared.find(({ name }) => FROM_ENCODER.test(name));
  if (fromEncoder !== undefined) {
    throw new UnsupportedModelError(
      `input "${fromEncoder.name}" comes from an encoder: this is the decoder of an encoder-decoder (T5, BART, Marian, Whisper), which cannot be pruned yet; choose a decoder-only text model`,
    );
  }
  const embeddings = findEmbeddingInput(declared);
  if (embeddings !== undefined) {
    throw new UnsupportedModelError(
      `the model reads "${embeddings.name}" instead of token ids; join its embedding model with joinEmbedding`,
    );
  }
  const inputs = declared.map((info) => readInput(info, graph));
  if (!inputs.some(({ role }) => role === 'tokens')) {
    throw new UnsupportedModelError(
      `the model has no input_ids (inputs: ${inputs.map(({ name }) => name).join(', ') || 'none'}); only text decoders can be pruned`,
    );
  }
  return inputs;
}

function readInput(info: ValueInfoProto, graph: GraphProto): ModelInput {
  const role = inputRole(info.name);
  if (PAGED.test(info.name)) {
    throw new UnsupportedModelError(
      `input "${info.name}" belongs to a paged KV cache, which is not supported yet; export the model with a cache of past keys and values, one for each block`,
    );
  }
  if (role === undefined || info.type?.value.case !== 'tensorType') {
    throw new UnsupportedModelError(
      `input "${info.name}" is not a known input of text decoders: token ids, masks, positions and caches that grow; export a plain text decoder, models with images, audio or caches of a fixed size cannot be pruned yet`,
    );
  }
  const { elemType, shape } = info.type.value.value;
  if (role === 'past' && !CACHE_TYPES.has(elemType)) {
    const type = findDataType(elemType)?.name ?? `type ${elemType}`;
    throw new UnsupportedModelError(
      `cache "${info.name}" is ${type}; expected float or float16: export the model in float32 or float16 with a cache of the same type, prune that, and quantise the result`,
    );
  }
  const dims = (shape?.dim ?? []).map(({ value }) =>
    value.case === 'dimValue' ? Number(value.value) : (value.value ?? ''),
  );
  const sizes = dims.filter((dim) => typeof dim === 'number');
  if (!(sizes.reduce((product, size) => product * size, 1) <= MAX_ELEMENTS) || sizes.some((size) => size < 0)) {
    throw new UnsupportedModelError(
      `input "${info.name}" is declared with dims [${dims}]; expected sizes from 0, up to ${MAX_ELEMENTS} elements together: export it with open batch and sequence axes`,
    );
  }
  if (role === 'state' && dims.slice(1).some((dim) => typeof dim !== 'number')) {
    throw new UnsupportedModelError(
      `input "${info.name}" carries a state of dims [${dims}]; expected [batch, ...] with fixed sizes after the batch: export it with fixed sizes`,
    );
  }
  return {
    name: info.name,
    role,
    dataType: elemType,
    dims: role === 'past' ? settleHeadSize(info.name, dims, graph) : dims,
  };
}

/** Newer exporters do not declare a cache's head size; it follows from the fused attention that reads it. */
function settleHeadSize(name: string, dims: readonly (number | string)[], graph: GraphProto): (number | string)[] {
  const last = dims.length - 1;
  if (dims.length !== 4 || typeof dims[last] === 'number') return [...dims];
  const reader = graph.node.find(({ input }) => input.includes(name));
  const size = reader && impliedHeadSize(reader, graph);
  return size === undefined ? [...dims] : dims.with(last, size);
}

/** Size of a run without past: `batchSize` windows of `sequenceLength` tokens. */
export interface PrefillSize {
  readonly batchSize: number;
  readonly sequenceLength: number;
}

/** Dims of an input for a run without past. Symbolic head sizes become 8. */
export function prefillDims(input: ModelInput, { batchSize, sequenceLength }: PrefillSize): number[] {
  if (input.role === 'useCache') return [1];
  if (input.role === 'logitsToKeep') return input.dims.map(() => 1);
  if (input.role === 'cachePositions') return [sequenceLength];
  // One row each for time, height and width, which are equal in text.
  if (input.role === 'positions' && input.dims.length === 3) {
    return [typeof input.dims[0] === 'number' ? input.dims[0] : 3, batchSize, sequenceLength];
  }
  if (input.role === 'state') return input.dims.map((dim, axis) => (axis === 0 ? batchSize : Number(dim)));
  if (input.role !== 'past') return [batchSize, sequenceLength];
  const axes = pastAxes(input);
  return input.dims.map((dim, axis) => {
    if (axis === axes.sequence) return input.capacity ?? 0;
    if (axis === axes.batch) return batchSize;
    return typeof dim === 'number' ? dim : 8;
  });
}

/** Axes of batch and sequence in a cache input: `[B, K, P, D]`, packed `[2, B, K, P, D]` or `[B, P, K*D]`. */
export function pastAxes(input: ModelInput): { readonly batch: number; readonly sequence: number } {
  const rank = input.dims.length;
  if (rank === 5) return { batch: 1, sequence: 3 };
  if (rank === 3) return { batch: 0, sequence: 1 };
  const named = input.dims.findIndex((dim, axis) => axis > 0 && typeof dim === 'string' && /past|seq|len/.test(dim));
  return { batch: 0, sequence: named === 1 ? 1 : 2 };
}
