import { freeBuffer } from '../free-bytes.js';
import { recentOf } from '../onnx/cache-names.js';
import { type ModelInput, pastAxes } from '../onnx/model-inputs.js';
import type { Tensor } from '../runtime/engine.js';
import { releaseTensor } from '../runtime/tensor-memory.js';
import type { Past } from './cached-feeds.js';

/** Largest number of recent tokens kept in a separate tensor, to which each run appends. */
const MAX_RECENT_TOKENS = 32;

/**
 * Appends a run's keys or values to the past, for graphs that return only the added ones; the given `past` must not be
 * used afterwards.
 */
export function addToPast({ tensors }: Past, input: ModelInput, added: Tensor): Past['tensors'] {
  const axis = pastAxes(input).sequence;
  const [name, recentName] = [input.name, recentOf(input.name)];
  const recent = appendPast(tensors[recentName], added, axis);
  if (recent.dims[axis]! >= MAX_RECENT_TOKENS) return { [name]: appendPast(tensors[name], recent, axis) };
  const { [name]: before } = tensors;
  return { ...(before && { [name]: before }), [recentName]: recent };
}

/** Buffers with spare room, each of one tensor. */
const overAllocated = new WeakSet<ArrayBufferLike>();

/** Spare tokens of new buffers. */
const ROOM = 64;

/**
 * Appends new keys or values, in place where there is room: `before` must not be used afterwards.
 * @param before Absent before the first run.
 * @param axis Axis of the tokens.
 */
function appendPast(before: Tensor | undefined, added: Tensor, axis: number): Tensor {
  if (before === undefined) return added;
  const [old, more] = [before.dims[axis]!, added.dims[axis]!];
  const rows = before.dims.slice(0, axis).reduce((product, dim) => product * dim, 1);
  const width = added.data.length / rows / more;
  const length = rows * (old + more) * width;
  const { data: values } = before;
  const Values = values.constructor as new (
    buffer: ArrayBufferLike,
    byteOffset: number,
    length: number,
  ) => typeof values;
  const { buffer, BYTES_PER_ELEMENT: size } = values;
  const isOwn = overAllocated.has(buffer);
  const hasRoom = isOwn && buffer.byteLength >= length * size;
  const data = new Values(hasRoom ? buffer : new ArrayBuffer((length + rows * ROOM * width) * size), 0, length);
  overAllocated.add(data.buffer);
  // Last row first: each moves to a higher offset, over rows that have moved.
  for (let row = rows - 1; row >= 0; row--) {
    const [from, to] = [row * old * width, row * (old + more) * width];
    if (hasRoom) data.copyWithin(to, from, from + old * width);
    else data.set(values.subarray(from, from + old * width) as never, to);
    data.set(added.data.subarray(row * more * width, (row + 1) * more * width) as never, to + old * width);
  }
  releaseTensor(added);
  if (!isOwn) releaseTensor(before);
  else if (!hasRoom) freeBuffer(buffer as ArrayBuffer);
  return { type: before.type, dims: before.dims.with(axis, old + more), data } as Tensor;
}
