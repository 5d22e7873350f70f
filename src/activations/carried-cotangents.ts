import type { Tensor, Tensors } from '../runtime/engine.js';
import type { TensorStore } from '../runtime/tensor-store.js';

/** A value that one block computes and later blocks read in addition to the hidden state: shared keys and values. */
export interface CarriedValue {
  readonly name: string;
  /** Block that computes it: an index into the list of spans. */
  readonly span: number;
  /** Whether its cotangent affects any measurement. */
  readonly isWanted: boolean;
}

/** Sums of the cotangents of shared values, collected from later blocks until the backward pass reaches their producer. */
export interface CarriedCotangents {
  /** Values that a block computes and whose cotangents are summed. */
  computedIn(span: number): readonly string[];
  /** Such values of all earlier blocks. */
  computedBefore(span: number): readonly string[];
  /** All values that a block computes, to be recomputed for its gradient. */
  allIn(span: number): readonly string[];
  /** Whether a value has a cotangent yet. */
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
  /** The first `batchCount` entries are the cotangents of the hidden states. */
  readonly cotangents: TensorStore;
  /** Entries that an earlier backward pass filled. */
  readonly entries: readonly number[] | undefined;
}

/** Graph input for the cotangent of a block's output. */
export const OUTPUT_COTANGENT = 'grad:out';

/** Graph input for the cotangent of a value. */
export const cotangentOf = (name: string): string => `grad:${name}`;

export function openCarriedCotangents({ values, batchCount, cotangents, entries }: CarriedRequest): CarriedCotangents {
  const wanted = values.filter(({ isWanted }) => isWanted);
  const entryOf = (name: string, batch: number) =>
    batchCount * (1 + wanted.findIndex((value) => value.name === name)) + batch;
  const filled = new Set(entries);
  const namesOf = (which: (value: CarriedValue) => boolean) => values.filter(which).map(({ name }) => name);
  return {
    computedIn: (span) => namesOf((value) => value.isWanted && value.span === span),
    computedBefore: (span) => namesOf((value) => value.isWanted && value.span < span),
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
