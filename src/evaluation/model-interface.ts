import { create } from '@bufbuild/protobuf';
import { GraphProtoSchema } from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import { makeValueInfo } from '../onnx/build.js';
import { findPresent, isFullCache, type PresentOutput } from '../onnx/cache-names.js';
import { type ModelInput, pastAxes, readModelInputs } from '../onnx/model-inputs.js';
import { type DeclaredValue, dataTypeOf, type Session, type TensorType } from '../runtime/engine.js';

/** Interface of a decoder graph: inputs, logits output, cache inputs and outputs. */
export interface ModelInterface {
  readonly inputs: readonly ModelInput[];
  readonly logits: DeclaredValue;
  /** Output with the next value of every cache input, by input name; undefined without a cache. */
  readonly presentOf: ReadonlyMap<string, PresentOutput> | undefined;
}

/** Cache sizes from configuration files, for graphs that do not declare them. */
export interface CacheSizes {
  /** D, if no output declares it. */
  readonly headSize?: number | undefined;
  /** Tokens of a sliding-window cache. */
  readonly slidingWindow?: number | undefined;
}

/**
 * Reads the interface from a session's declarations.
 *
 * @throws UnsupportedModelError for a graph that is not a text decoder's.
 */
export function readModelInterface(session: Session, sizes: CacheSizes = {}): ModelInterface {
  const { outputs } = session;
  const declared = session.inputs.map(({ name, type, dims }) =>
    makeValueInfo(name, dataTypeOf(type as TensorType), dims),
  );
  const inputs = readModelInputs(create(GraphProtoSchema, { input: declared }));
  const presentOf = new Map<string, PresentOutput>();
  const pasts = inputs.filter((input) => isFullCache(input) || input.role === 'state');
  for (const { name } of pasts) {
    const present = findPresent(name, outputs);
    if (present !== undefined) presentOf.set(name, present);
  }
  const logits = outputs.find(({ name }) => name === 'logits') ?? outputs[0];
  if (logits === undefined) throw new UnsupportedModelError('the model has no outputs; expected one named "logits"');
  const withSizes = (input: ModelInput): ModelInput => {
    const present = outputs.find(({ name }) => name === presentOf.get(input.name)?.name);
    return input.role === 'past' ? withCapacity(withHeadSize(input, present?.dims.at(-1), sizes), sizes) : input;
  };
  return {
    inputs: inputs.map(withSizes),
    logits,
    presentOf: pasts.length > 0 && presentOf.size === pasts.length ? presentOf : undefined,
  };
}

function withHeadSize(input: ModelInput, ofPresent: number | string | undefined, { headSize }: CacheSizes): ModelInput {
  if (typeof input.dims.at(-1) === 'number') return input;
  const size = typeof ofPresent === 'number' ? ofPresent : headSize;
  return size === undefined ? input : { ...input, dims: [...input.dims.slice(0, -1), size] };
}

/** A cache that slides (`past_sliding_length`, by onnxruntime-genai) is allocated for its window from the start. */
function withCapacity(input: ModelInput, { slidingWindow }: CacheSizes): ModelInput {
  const length = input.dims[pastAxes(input).sequence];
  const slides = typeof length === 'string' && length.includes('sliding');
  return slides && slidingWindow !== undefined ? { ...input, capacity: slidingWindow } : input;
}
