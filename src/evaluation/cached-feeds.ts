import type { InputRole, ModelInput } from '../onnx/model-inputs.js';
import type { Tensor } from '../runtime/engine.js';
import { integersOf, prefillFeeds } from '../runtime/prefill-feeds.js';

/** Keys and values of the tokens read so far, and states of other kinds, by input name. */
export interface Past {
  /** Tokens read. */
  readonly length: number;
  readonly tensors: Readonly<Record<string, Tensor>>;
}

/**
 * Feeds for B sequences without padding that continue `past`.
 * @param tokens B lists of one length.
 */
export function cachedFeeds(
  inputs: readonly ModelInput[],
  tokens: readonly Int32Array[],
  past?: Past,
): Record<string, Tensor> {
  const size = { batchSize: tokens.length, sequenceLength: tokens[0]?.length ?? 0 };
  const feeds = prefillFeeds(inputs, size, flatten(tokens));
  if (past === undefined || past.length === 0) return feeds;
  const total = past.length + size.sequenceLength;
  const continued: Partial<Record<InputRole, (feed: Tensor, name: string) => Tensor>> = {
    attentionMask: (feed) => integersOf(feed.type, [size.batchSize, total], () => 1),
    positions: (feed) => integersOf(feed.type, feed.dims, (at) => past.length + (at % size.sequenceLength)),
    cachePositions: (feed) => integersOf(feed.type, feed.dims, (at) => past.length + at),
    useCache: () => ({ type: 'bool', dims: [1], data: Uint8Array.of(1) }),
    past: (feed, name) => past.tensors[name] ?? feed,
    state: (feed, name) => past.tensors[name] ?? feed,
  };
  for (const { name, role } of inputs) {
    const feed = feeds[name];
    if (feed !== undefined) feeds[name] = continued[role]?.(feed, name) ?? feed;
  }
  return feeds;
}

/**
 * Gathers the keys and values of some sequences by index; an index may repeat.
 * @param rows Indices of the B sequences of `past`.
 * @param batchSize B.
 */
export function gatherPast(past: Past, rows: readonly number[], batchSize: number): Past {
  const isIdentity = rows.length === batchSize && rows.every((row, at) => row === at);
  if (past.length === 0 || isIdentity) return past;
  const gathered = Object.entries(past.tensors).map(([name, tensor]) => [name, gatherRows(tensor, rows)]);
  return { length: past.length, tensors: Object.fromEntries(gathered) };
}

/** Caches are `[B, ...]`, or keys and values packed: `[2, B, ...]`. */
function gatherRows(tensor: Tensor, rows: readonly number[]): Tensor {
  const { dims, data } = tensor;
  const axis = dims.length === 5 ? 1 : 0;
  const outer = axis === 1 ? dims[0]! : 1;
  const batchSize = dims[axis]!;
  const size = data.length / outer / batchSize;
  const gathered = new (data.constructor as new (length: number) => typeof data)(outer * rows.length * size);
  for (let part = 0; part < outer; part++) {
    for (const [at, row] of rows.entries()) {
      const start = (part * batchSize + row) * size;
      gathered.set(data.subarray(start, start + size) as never, (part * rows.length + at) * size);
    }
  }
  const gatheredDims = dims.map((dim, at) => (at === axis ? rows.length : dim));
  return { type: tensor.type, dims: gatheredDims, data: gathered } as Tensor;
}

/** Concatenates sequences of one length. */
function flatten(sequences: readonly Int32Array[]): Int32Array {
  const length = sequences[0]?.length ?? 0;
  const flat = new Int32Array(sequences.length * length);
  for (const [index, sequence] of sequences.entries()) flat.set(sequence, index * length);
  return flat;
}
