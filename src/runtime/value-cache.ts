import type { Tensor } from './engine.js';
import { releaseTensor, retainTensor } from './tensor-memory.js';

/** Values of a stage, cached in memory for all batches, so that the nodes before them run once. */
export interface ValueCache {
  /** Requests that values of the current stage be cached when they are next computed. */
  want(values: readonly string[]): void;
  /** The requested ones among `values` that are not cached yet. */
  wantedAmong(values: readonly string[]): string[];
  put(value: string, batch: number, tensor: Tensor): void;
  /** Marks values as cached for all batches. */
  finish(values: readonly string[]): void;
  has(value: string): boolean;
  /** The entire cached value. */
  get(value: string, batch: number): Tensor;
  /** Narrows a value to some channels of its last axis; without channels it is dropped. */
  narrow(value: string, keep: Int32Array): void;
  /** Remaining channels of narrowed values. */
  readonly narrowed: ReadonlyMap<string, Int32Array>;
  /** Ends the current stage: its cached values are used once more, to advance. */
  endStage(): void;
  /** Frees a batch's cached values of earlier stages. */
  drop(batch: number): void;
  /** Drops all cached values of earlier stages. */
  forget(): void;
  /** Cached bytes of all batches. */
  byteLength(): number;
  /** The state of the cache, without the tensors. */
  save(): SavedValueCache;
  /** Restores what `save` returned; the tensors follow by `put`. */
  restore(saved: SavedValueCache): void;
}

/** Names of cached values, and how they were narrowed. */
export interface SavedValueCache {
  readonly wanted: ReadonlySet<string>;
  readonly complete: ReadonlySet<string>;
  readonly left: ReadonlySet<string>;
  readonly narrowed: ReadonlyMap<string, Int32Array>;
}

export function createValueCache(): ValueCache {
  const wanted = new Set<string>();
  const complete = new Set<string>();
  const left = new Set<string>();
  const tensors = new Map<string, Map<number, Tensor>>();
  const narrowed = new Map<string, Int32Array>();
  const drop = (value: string, batch: number): void => {
    const tensor = tensors.get(value)?.get(batch);
    tensors.get(value)?.delete(batch);
    if (tensor !== undefined) releaseTensor(tensor);
  };
  const forget = (value: string): void => {
    tensors.get(value)?.forEach(releaseTensor);
    for (const part of [wanted, complete, left, tensors, narrowed]) part.delete(value);
  };
  return {
    narrowed,
    want(values) {
      for (const value of values) wanted.add(value);
    },
    wantedAmong: (values) => [...new Set(values)].filter((value) => wanted.has(value) && !complete.has(value)),
    put(value, batch, tensor) {
      const batches = tensors.get(value) ?? new Map<number, Tensor>();
      retainTensor(tensor);
      tensors.set(value, batches.set(batch, tensor));
    },
    finish(values) {
      for (const value of values) complete.add(value);
    },
    has: (value) => complete.has(value),
    get(value, batch) {
      const tensor = tensors.get(value)?.get(batch);
      if (tensor === undefined) throw new RangeError(`"${value}" of batch ${batch} is not cached`);
      return tensor;
    },
    narrow(value, keep) {
      if (keep.length === 0) forget(value);
      else if (complete.has(value)) narrowed.set(value, keep);
    },
    endStage() {
      for (const value of complete) left.add(value);
      wanted.clear();
    },
    drop(batch) {
      for (const value of left) drop(value, batch);
    },
    forget() {
      for (const value of left) forget(value);
    },
    byteLength: () =>
      [...tensors.values()].reduce(
        (sum, batches) => [...batches.values()].reduce((all, { data }) => all + data.byteLength, sum),
        0,
      ),
    save: () => ({ wanted, complete, left, narrowed }),
    restore(saved) {
      for (const value of saved.wanted) wanted.add(value);
      for (const value of saved.complete) complete.add(value);
      for (const value of saved.left) left.add(value);
      for (const [value, keep] of saved.narrowed) narrowed.set(value, keep);
    },
  };
}
