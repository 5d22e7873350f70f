import { freeBuffer } from '../free-bytes.js';
import { recentOf } from '../graph/cache-names.js';
import { type ModelInput, pastAxes } from '../graph/model-inputs.js';
import type { Tensor } from '../runtime/engine.js';
import { releaseTensor } from '../runtime/tensor-memory.js';
import type { Past } from './cached-feeds.js';

/** Tokens that stand apart at most: those behind which new ones are put at every run. */
const MOST_RECENT = 32;

/**
 * Keys or values of one block with those that a run added, as a graph reads them that returns what it adds; `past` is of no use
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
const overAllocated = new WeakSet<ArrayBufferLike>();

/** Further tokens that new memory has room for. */
const ROOM = 64;

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
  const isOwn = overAllocated.has(buffer);
  const hasRoom = isOwn && buffer.byteLength >= length * size;
  const data = new make(hasRoom ? buffer : new ArrayBuffer((length + rows * ROOM * width) * size), 0, length);
  overAllocated.add(data.buffer);
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
