import type { GraphProto, TensorShapeProto_Dimension, ValueInfoProto } from 'onnx-buf';
import { findEmbeddingInput, findTokenInput, readModelInputs } from './model-inputs.js';

/** Name of the batch axis in transformers.js. */
const BATCH = 'batch_size';

/**
 * Renames symbolic cache dims for transformers.js, in place: it creates empty caches from the declared sizes, with one
 * known name for the batch, and 0 for every other name.
 */
export function nameCacheAxes(graph: GraphProto): void {
  const tokens = findTokenInput(graph.input);
  const first = tokens ?? findEmbeddingInput(graph.input);
  const batch = first && dimsOf(first)[0]?.value;
  if (batch?.case === 'dimParam' && batch.value !== '') renameAxis(graph, batch.value);
  const caches = tokens === undefined ? [] : readModelInputs(graph).filter(({ role }) => role === 'past');
  for (const { name, dims } of caches) {
    const declared = dimsOf(graph.input.find((info) => info.name === name)!);
    for (const [at, dim] of dims.entries())
      if (typeof dim === 'number') declared[at]!.value = { case: 'dimValue', value: BigInt(dim) };
  }
}

function renameAxis({ input, output, valueInfo }: GraphProto, name: string): void {
  for (const { value } of [...input, ...output, ...valueInfo].flatMap(dimsOf))
    if (value.case === 'dimParam' && value.value === name) value.value = BATCH;
}

function dimsOf({ type }: ValueInfoProto): readonly TensorShapeProto_Dimension[] {
  return type?.value.case === 'tensorType' ? (type.value.value.shape?.dim ?? []) : [];
}
