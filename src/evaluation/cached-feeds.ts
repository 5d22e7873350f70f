import { freeBuffer } from '../free-bytes.js';
import { recentOf } from '../graph/hand-out-added.js';
import { type InputRole, type ModelInput, pastAxes } from '../graph/model-inputs.js';
import type { Tensor } from '../runtime/engine.js';
import { integersOf, prefillFeeds } from '../runtime/prefill-feeds.js';
import { releaseTensor } from '../runtime/tensor-memory.js';

/** Keys and values of the tokens read so far, and states of other kinds, by the name of the input they are fed to. */
export interface Past {
  /** Tokens read. */
  readonly length: number;
  readonly tensors: Readonly<Record<string, Tensor>>;
}

/**
 * Feeds for B sequences that need no padding, after what `past` holds of them.
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
 * Copies the keys and values of some sequences, in the order asked for; one may be asked for several times.
 * @param rows Positions among the B sequences that `past` holds.
 * @param batchSize B.
 */
export function gatherPast(past: Past, rows: readonly number[], batchSize: number): Past {
  const isWhole = rows.length === batchSize && rows.every((row, at) => row === at);
  if (past.length === 0 || isWhole) return past;
  const gathered = Object.entries(past.tensors).map(([name, tensor]) => [name, gatherRows(tensor, rows)]);
  return { length: past.length, tensors: Object.fromEntries(gathered) };
}

/** Tokens that stand apart at most: those behind which new ones are put at every run. */
const MOST_RECENT = 32;

/**
 * Keys or values of one block with those that a run added, as a graph reads them that hands out what it adds; `past` is of no use
 * afterwards.
 */
export function addToPast({ tensors }: Past, input: ModelInput, added: Tensor): Past['tensors'] {
  const axis = pastAxes(input).sequence;
  const [name, recentName] = [input.name, recentOf(input.name)];
  const recent = appendPast(tensors[recentName], added, axis);
  if (recent.dims[axis]! >= MOST_RECENT) return { [name]: appendPast(tensors[name], recent, axis) };
  const { [name]: before } = tensors;
  return { ...(before && { [name]: before }), [recentName]: recent };
}

/** Memory that was made with room, and holds nothing else. */
const roomy = new WeakSet<ArrayBufferLike>();

/** Room for further tokens in new memory, as a fraction of those there are, and at least. */
const ROOM = { fraction: 0.125, least: 32 };

/**
 * Puts what a run added behind the keys or values that there are, in the same memory where there is room: `before` is of no use
 * afterwards.
 * @param before Absent before the first run.
 * @param axis That of the tokens.
 */
function appendPast(before: Tensor | undefined, added: Tensor, axis: number): Tensor {
  if (before === undefined) return added;
  const [old, more] = [before.dims[axis]!, added.dims[axis]!];
  const rows = before.dims.slice(0, axis).reduce((product, dim) => product * dim, 1);
  const width = added.data.length / rows / more;
  const length = rows * (old + more) * width;
  const { data: held } = before;
  const make = held.constructor as new (buffer: ArrayBufferLike, byteOffset: number, length: number) => typeof held;
  const { buffer, BYTES_PER_ELEMENT: size } = held;
  const isOwn = roomy.has(buffer);
  const hasRoom = isOwn && buffer.byteLength >= length * size;
  const room = rows * width * Math.max(ROOM.least, Math.ceil(ROOM.fraction * old));
  const data = new make(hasRoom ? buffer : new ArrayBuffer((length + room) * size), 0, length);
  roomy.add(data.buffer);
  // From the last row on: each moves behind where it was, over what has moved already.
  for (let row = rows - 1; row >= 0; row--) {
    const [from, to] = [row * old * width, row * (old + more) * width];
    if (hasRoom) data.copyWithin(to, from, from + old * width);
    else data.set(held.subarray(from, from + old * width) as never, to);
    data.set(added.data.subarray(row * more * width, (row + 1) * more * width) as never, to + old * width);
  }
  releaseTensor(added);
  if (!isOwn) releaseTensor(before);
  else if (!hasRoom) freeBuffer(buffer as ArrayBuffer);
  return { type: before.type, dims: before.dims.with(axis, old + more), data } as Tensor;
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
  const grown = dims.map((dim, at) => (at === axis ? rows.length : dim));
  return { type: tensor.type, dims: grown, data: gathered } as Tensor;
}

/** One flat list of all the tokens, sequence after sequence. */
function flatten(sequences: readonly Int32Array[]): Int32Array {
  const length = sequences[0]?.length ?? 0;
  const flat = new Int32Array(sequences.length * length);
  for (const [index, sequence] of sequences.entries()) flat.set(sequence, index * length);
  return flat;
}
