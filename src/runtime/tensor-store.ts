import { ignoreRejection } from '../ignore-rejection.js';
import { ARRAYS, type Tensor, type TensorType } from './engine.js';
import { releaseTensor, retainTensor } from './tensor-memory.js';

/**
 * Tensors by index: the hidden states of every batch between blocks, or the Gram matrix or curvature of every module. Entries
 * are overwritten in place, so that the store never contains two versions.
 */
export interface TensorStore {
  /** The tensor of a batch, valid until the next `get` or `put`. */
  get(batch: number): Promise<Tensor>;
  /** Stores a tensor, which must not change afterwards. It is retained as long as the store needs it. */
  put(batch: number, tensor: Tensor): Promise<void>;
  /** Frees memory or removes the file. */
  dispose(): Promise<void>;
}

/** A store in memory. */
export function createMemoryStore(): TensorStore {
  const tensors = new Map<number, Tensor>();
  return {
    async get(batch) {
      const tensor = tensors.get(batch);
      if (tensor === undefined) throw new RangeError(`no hidden state of batch ${batch} was stored`);
      return tensor;
    },
    async put(batch, tensor) {
      const old = tensors.get(batch);
      retainTensor(tensor);
      tensors.set(batch, tensor);
      if (old !== undefined) releaseTensor(old);
    },
    async dispose() {
      tensors.forEach(releaseTensor);
      tensors.clear();
    },
  };
}

/** A scratch file that can be overwritten in place. */
export interface ScratchFile {
  /** Fills `bytes` with what was written from `offset` on. */
  readInto(offset: number, bytes: Uint8Array): Promise<void>;
  write(offset: number, bytes: Uint8Array): Promise<void>;
  /** Frees the space; a second call does nothing. */
  dispose(): Promise<void>;
}

/**
 * A store in a scratch file; every entry has a range of its first tensor's size. The disk is idle while an engine runs on the
 * calling thread, so that one write continues in the background, and the next batch, in the direction of the last two reads,
 * is read ahead. The next call throws the error of a failed write.
 */
export function createSpilledStore(file: ScratchFile): TensorStore {
  const entries = new Map<
    number,
    { readonly offset: number; readonly capacity: number; tensor: Omit<Tensor, 'data'>; byteLength: number }
  >();
  let end = 0;
  let written = Promise.resolve();
  let ahead: { readonly batch: number; readonly tensor: Promise<Tensor> } | undefined;
  let last = -1;
  /** The buffer returned last, to be reused: new memory for each read would keep the garbage collector busy. */
  let spare: ArrayBuffer | undefined;
  let largest = 0;

  async function read(batch: number): Promise<Tensor> {
    const entry = entries.get(batch);
    if (entry === undefined) throw new RangeError(`no hidden state of batch ${batch} was stored`);
    const { offset, byteLength, tensor } = entry;
    const buffer = spare !== undefined && spare.byteLength >= byteLength ? spare : new ArrayBuffer(largest);
    spare = undefined;
    await written;
    await file.readInto(offset, new Uint8Array(buffer, 0, byteLength));
    return { ...tensor, data: viewOf(tensor.type, buffer, byteLength) } as Tensor;
  }

  return {
    async get(batch) {
      const tensor = await (ahead?.batch === batch ? ahead.tensor : read(batch));
      const next = batch < last ? batch - 1 : batch + 1;
      last = batch;
      ahead = entries.has(next) ? { batch: next, tensor: ignoreRejection(read(next)) } : undefined;
      spare = tensor.data.buffer as ArrayBuffer;
      return tensor;
    },
    async put(batch, added) {
      const { data, ...tensor } = added;
      retainTensor(added);
      // The read ahead may be of the range that is overwritten.
      await Promise.allSettled([ahead?.tensor]);
      await written;
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      const known = entries.get(batch);
      const fits = known !== undefined && known.capacity >= bytes.byteLength;
      const offset = fits ? known.offset : end;
      const capacity = fits ? known.capacity : bytes.byteLength;
      if (!fits) end += bytes.byteLength;
      largest = Math.max(largest, bytes.byteLength);
      entries.set(batch, { offset, capacity, tensor, byteLength: bytes.byteLength });
      if (ahead?.batch === batch) ahead = undefined;
      written = ignoreRejection(written.then(() => file.write(offset, bytes)).finally(() => releaseTensor(added)));
    },
    async dispose() {
      await Promise.allSettled([written, ahead?.tensor]);
      await file.dispose();
    },
  };
}

function viewOf(type: TensorType, buffer: ArrayBuffer, byteLength: number): Tensor['data'] {
  const View = ARRAYS[type];
  return new View(buffer, 0, byteLength / View.BYTES_PER_ELEMENT);
}
