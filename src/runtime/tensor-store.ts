import { ignoreRejection } from '../ignore-rejection.js';
import { ARRAYS, type Tensor, type TensorType } from './engine.js';
import { releaseTensor, retainTensor } from './tensor-memory.js';

/**
 * Where tensors wait by index: the hidden states of every batch between blocks, the Gram matrix or curvature of every module.
 * An entry is overwritten in place, so that the store never holds more than one generation.
 */
export interface TensorStore {
  /** The tensor of a batch; it remains as it is until the next `get` or `put`. */
  get(batch: number): Promise<Tensor>;
  /** Takes a tensor, which must not change any more, and retains it as long as it needs it. */
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
 * A store in a scratch file; every entry has its own place, as large as its first tensor. An engine that runs on the
 * calling thread leaves the disk idle meanwhile, so one write continues behind the caller's back, and one read, of the batch
 * that comes next in the direction of the last two, ahead of it. A write that failed is the next call's error.
 */
export function createSpilledStore(file: ScratchFile): TensorStore {
  const places = new Map<
    number,
    { readonly offset: number; readonly room: number; tensor: Omit<Tensor, 'data'>; byteLength: number }
  >();
  let end = 0;
  let written = Promise.resolve();
  let ahead: { readonly batch: number; readonly tensor: Promise<Tensor> } | undefined;
  let last = -1;
  /** The buffer returned last, to be reused: new memory for each read would keep the garbage collector busy. */
  let spare: ArrayBuffer | undefined;
  let largest = 0;

  async function read(batch: number): Promise<Tensor> {
    const place = places.get(batch);
    if (place === undefined) throw new RangeError(`no hidden state of batch ${batch} was stored`);
    const { offset, byteLength, tensor } = place;
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
      ahead = places.has(next) ? { batch: next, tensor: ignoreRejection(read(next)) } : undefined;
      spare = tensor.data.buffer as ArrayBuffer;
      return tensor;
    },
    async put(batch, given) {
      const { data, ...tensor } = given;
      retainTensor(given);
      // What is read ahead may lie where this goes.
      await Promise.allSettled([ahead?.tensor]);
      await written;
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      const known = places.get(batch);
      const fits = known !== undefined && known.room >= bytes.byteLength;
      const offset = fits ? known.offset : end;
      const room = fits ? known.room : bytes.byteLength;
      if (!fits) end += bytes.byteLength;
      largest = Math.max(largest, bytes.byteLength);
      places.set(batch, { offset, room, tensor, byteLength: bytes.byteLength });
      if (ahead?.batch === batch) ahead = undefined;
      written = ignoreRejection(written.then(() => file.write(offset, bytes)).finally(() => releaseTensor(given)));
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
