import type { Tensor, Tensors } from '../runtime/engine.js';
import type { TensorStore } from '../runtime/tensor-store.js';

/** A value that a block makes and later blocks read besides the hidden state: keys and values that several blocks share. */
export interface CarriedValue {
  readonly name: string;
  /** The block that makes it, by its place in the list of spans. */
  readonly span: number;
  /** Whether its cotangent reaches anything that is measured. */
  readonly isWanted: boolean;
}

/** Sums of the cotangents that later blocks send back to what they share, until the block that made it takes them. */
export interface CarriedCotangents {
  /** Values that a block makes and whose cotangents are summed. */
  madeIn(span: number): readonly string[];
  /** Such values of all blocks before one. */
  madeBefore(span: number): readonly string[];
  /** All values that a block makes, which a gradient through the block must make again. */
  allIn(span: number): readonly string[];
  /** Whether anything has come back for a value. */
  has(name: string): boolean;
  add(name: string, batch: number, cotangent: Tensor): Promise<void>;
  /** Feeds of the cotangents of some values. */
  feeds(names: readonly string[], batch: number): Promise<Tensors>;
  /** Entries of the store that are in use. */
  entries(): readonly number[];
}

export interface CarriedRequest {
  readonly values: readonly CarriedValue[];
  readonly batchCount: number;
  /** Its first `batchCount` entries are others'. */
  readonly cotangents: TensorStore;
  /** Entries that an earlier walk has filled. */
  readonly entries: readonly number[] | undefined;
}

/** Graph input that holds the cotangent of a value. */
export const cotangentOf = (name: string): string => `grad:${name}`;

export function openCarriedCotangents({ values, batchCount, cotangents, entries }: CarriedRequest): CarriedCotangents {
  const wanted = values.filter(({ isWanted }) => isWanted);
  const entryOf = (name: string, batch: number) =>
    batchCount * (1 + wanted.findIndex((value) => value.name === name)) + batch;
  const filled = new Set(entries);
  const namesOf = (which: (value: CarriedValue) => boolean) => values.filter(which).map(({ name }) => name);
  return {
    madeIn: (span) => namesOf((value) => value.isWanted && value.span === span),
    madeBefore: (span) => namesOf((value) => value.isWanted && value.span < span),
    allIn: (span) => namesOf((value) => value.span === span),
    has: (name) => filled.has(entryOf(name, 0)),
    async add(name, batch, cotangent) {
      const entry = entryOf(name, batch);
      const sum = Float32Array.from(cotangent.data as Float32Array);
      if (filled.has(entry)) {
        const known = (await cotangents.get(entry)).data as Float32Array;
        for (let at = 0; at < sum.length; at += 1) sum[at]! += known[at]!;
      }
      filled.add(entry);
      await cotangents.put(entry, { type: 'float32', dims: cotangent.dims, data: sum });
    },
    async feeds(names, batch) {
      const feeds: Record<string, Tensor> = {};
      for (const name of names) {
        const tensor = await cotangents.get(entryOf(name, batch));
        // The store may reuse the memory of what it returned.
        feeds[cotangentOf(name)] = { ...tensor, data: (tensor.data as Float32Array).slice() } as Tensor;
      }
      return feeds;
    },
    entries: () => [...filled].sort((a, b) => a - b),
  };
}
