import type { Tensor } from './engine.js';

/** Values of one stage kept in memory for all batches, so that what comes before them need not run again. */
export interface HeldValues {
  /** Asks for values to be kept when they are next computed. */
  want(values: readonly string[]): void;
  /** Those of some values that are wanted and not there yet. */
  wantedAmong(values: readonly string[]): string[];
  put(value: string, batch: number, tensor: Tensor): void;
  /** Says that some values are there for all batches. */
  finish(values: readonly string[]): void;
  has(value: string): boolean;
  get(value: string, batch: number): Tensor;
  /** Narrows a value to some channels of its last axis; with none it is forgotten. */
  narrow(value: string, keep: Int32Array): void;
  /** Channels of the values that were narrowed. */
  readonly widths: ReadonlyMap<string, number>;
  clear(): void;
}

export function createHeldValues(): HeldValues {
  const wanted = new Set<string>();
  const complete = new Set<string>();
  const tensors = new Map<string, Map<number, Tensor>>();
  const kept = new Map<string, Int32Array>();
  const widths = new Map<string, number>();
  return {
    widths,
    want(values) {
      for (const value of values) wanted.add(value);
    },
    wantedAmong: (values) => [...new Set(values)].filter((value) => wanted.has(value) && !complete.has(value)),
    put(value, batch, tensor) {
      const batches = tensors.get(value) ?? new Map<number, Tensor>();
      tensors.set(value, batches.set(batch, tensor));
    },
    finish(values) {
      for (const value of values) complete.add(value);
    },
    has: (value) => complete.has(value),
    get(value, batch) {
      const tensor = tensors.get(value)?.get(batch);
      if (tensor === undefined) throw new RangeError(`"${value}" of batch ${batch} is not held`);
      const channels = kept.get(value);
      return channels === undefined ? tensor : pickChannels(tensor, channels);
    },
    narrow(value, keep) {
      if (keep.length === 0) {
        complete.delete(value);
        wanted.delete(value);
        tensors.delete(value);
        return;
      }
      kept.set(value, keep);
      widths.set(value, keep.length);
    },
    clear() {
      for (const part of [wanted, complete, tensors, kept, widths]) part.clear();
    },
  };
}

/** Some channels of the last axis. */
function pickChannels({ type, dims, data }: Tensor, channels: Int32Array): Tensor {
  const width = dims.at(-1) ?? 0;
  const rowCount = width === 0 ? 0 : data.length / width;
  const count = channels.length;
  const picked = new (data.constructor as new (length: number) => Float32Array)(rowCount * count);
  const source = data as Float32Array;
  for (let row = 0; row < rowCount; row += 1) {
    for (let at = 0; at < count; at += 1) picked[row * count + at] = source[row * width + channels[at]!]!;
  }
  return { type, dims: dims.with(-1, count), data: picked } as Tensor;
}
