import { OptionError } from '../errors.js';
import { FLOAT32 } from '../onnx/data-types.js';
import { readFloat32 } from '../onnx/float-encoding.js';
import type { TensorHandle } from '../onnx/onnx-model.js';
import type { Tensor } from '../runtime/engine.js';
import { releaseTensor, trackTensor } from '../runtime/tensor-memory.js';
import type { TensorStore } from '../runtime/tensor-store.js';
import { readGroup, type WeightGroups } from './weight-groups.js';

/** A point of the learning curve. */
export interface CurvePoint {
  /** Steps done. */
  readonly step: number;
  /** Mean divergence over the tokens of the step, before it was taken, in nats; absent at the start. */
  readonly train?: number;
  /** Mean divergence over the held-out windows, after the step; absent between two measurements. */
  readonly heldOut?: number;
}

/** State of training without the weights. */
export interface TrainingFacts {
  /** Steps done. */
  readonly step: number;
  /** Times that the learning rate was halved. */
  readonly halvings: number;
  /** The best state so far: the steps it took, and its divergence on the held-out windows. */
  readonly best: { readonly step: number; readonly heldOut: number };
  /** Number of latest consecutive scores without improvement over the one before. */
  readonly idle: number;
  readonly curve: readonly CurvePoint[];
}

/** Serializable state of training: resuming from it is byte-identical. */
export interface SavedTraining {
  readonly facts: TrainingFacts;
  /** Float32 weights and moments by group, of the best state and, if different, of the current one. */
  readonly tensors: ReadonlyMap<string, TensorHandle>;
  /** Releases the source of the tensors, unless it is memory. */
  readonly release?: (() => Promise<void>) | undefined;
}

/** Weights in float32, and Adam's moments, one entry per group. */
export interface WeightStores {
  readonly weights: TensorStore;
  readonly first: TensorStore;
  readonly second: TensorStore;
}

const PARTS = ['weights', 'first', 'second'] as const;

/**
 * Stores of the current and the best state. Where the current state is the best, both are the same store and the next
 * step is written into the other.
 */
export interface TrainingStores {
  readonly now: WeightStores;
  readonly best: WeightStores;
  /** Prepares the next step. @returns the stores to read from and to write to, which is `now` afterwards; often the same. */
  advance(): { readonly from: WeightStores; readonly to: WeightStores };
  /** Marks the current state as the best. */
  markBest(): void;
  /** Returns to the best state. */
  revert(): void;
  dispose(): Promise<void>;
}

/** @param createStore Creates a store of that size. */
export async function createTrainingStores(
  groups: WeightGroups,
  createStore: (byteLength: number) => TensorStore | Promise<TensorStore>,
): Promise<TrainingStores> {
  const count = groups.all.reduce((sum, group) => sum + group.count, 0);
  const created: TensorStore[] = [];
  const create = async (): Promise<WeightStores> => {
    const stores: Partial<Record<(typeof PARTS)[number], TensorStore>> = {};
    for (const part of PARTS) {
      stores[part] = await createStore(count * Float32Array.BYTES_PER_ELEMENT);
      created.push(stores[part]);
    }
    return stores as WeightStores;
  };
  const dispose = async () => void (await Promise.all(created.map((store) => store.dispose())));
  try {
    return alternateStores(await create(), await create(), dispose);
  } catch (error) {
    await dispose();
    throw error;
  }
}

function alternateStores(first: WeightStores, second: WeightStores, dispose: () => Promise<void>): TrainingStores {
  let now = first;
  let best = first;
  return {
    get now() {
      return now;
    },
    get best() {
      return best;
    },
    advance() {
      const from = now;
      if (now === best) now = best === first ? second : first;
      return { from, to: now };
    },
    markBest() {
      best = now;
    },
    revert() {
      now = best;
    },
    dispose,
  };
}

/** Initializes the stores with the model's weights and zero moments. */
export async function fillStores({ all }: WeightGroups, { now }: TrainingStores): Promise<void> {
  for (const [at, group] of all.entries()) {
    await putAndFree(now.weights, at, await readGroup(group));
    await putAndFree(now.first, at, new Float32Array(group.count));
    await putAndFree(now.second, at, new Float32Array(group.count));
  }
}

export const putList = (store: TensorStore, at: number, data: Float32Array): Promise<void> =>
  store.put(at, listOf(data));

/** Puts a list that is not used elsewhere, and frees it. */
export async function putAndFree(store: TensorStore, at: number, data: Float32Array): Promise<void> {
  const list = listOf(data);
  trackTensor(list);
  await store.put(at, list);
  releaseTensor(list);
}

const listOf = (data: Float32Array): Tensor => ({ type: 'float32', dims: [data.length], data });

/** A view of an entry, valid until the store's next call. */
export const getList = async (store: TensorStore, at: number): Promise<Float32Array> =>
  (await store.get(at)).data as Float32Array;

/** State for `unpackTraining`; its tensors are read lazily from the stores, which must not change meanwhile. */
export function packTraining(facts: TrainingFacts, groups: WeightGroups, { now, best }: TrainingStores): SavedTraining {
  const entries = [...listEntries(groups, 'best', best), ...(now === best ? [] : listEntries(groups, 'now', now))];
  return {
    facts,
    tensors: new Map(entries.map(({ name, store, at, count }) => [name, entryHandle(store, at, count)])),
  };
}

/** Restores a saved state. @throws OptionError when it is of other weights. */
export async function unpackTraining(
  saved: SavedTraining,
  groups: WeightGroups,
  stores: TrainingStores,
): Promise<void> {
  const fill = async (entries: ReturnType<typeof listEntries>) => {
    for (const { name, store, at, count } of entries) await putAndFree(store, at, await readSaved(saved, name, count));
  };
  await fill(listEntries(groups, 'best', stores.best));
  if ([...saved.tensors.keys()].some((name) => name.startsWith('now/')))
    await fill(listEntries(groups, 'now', stores.advance().to));
  await saved.release?.();
}

/** Reads the best weights of a group; each group once, in order. */
export const bestWeights =
  (saved: SavedTraining, { all }: WeightGroups) =>
  (at: number): Promise<Float32Array> =>
    readSaved(saved, nameOf('best', 'weights', at), all[at]!.count);

async function readSaved({ tensors }: SavedTraining, name: string, count: number): Promise<Float32Array> {
  const handle = tensors.get(name);
  const found = handle?.dims[0];
  if (handle === undefined || found !== count)
    throw new OptionError(
      `the saved training has ${found ?? 'no'} numbers in "${name}", expected ${count}: it is from another model or other settings; start again`,
    );
  return readFloat32(handle);
}

const nameOf = (state: 'now' | 'best', part: (typeof PARTS)[number], at: number): string => `${state}/${part}/${at}`;

const listEntries = ({ all }: WeightGroups, state: 'now' | 'best', stores: WeightStores) =>
  PARTS.flatMap((part) =>
    all.map(({ count }, at) => ({ name: nameOf(state, part, at), store: stores[part], at, count })),
  );

function entryHandle(store: TensorStore, at: number, count: number): TensorHandle {
  const byteLength = count * Float32Array.BYTES_PER_ELEMENT;
  return {
    dataType: FLOAT32,
    dims: [count],
    byteLength,
    async read({ offset, length } = { offset: 0, length: byteLength }) {
      const { buffer, byteOffset } = await getList(store, at);
      return new Uint8Array(buffer.slice(byteOffset + offset, byteOffset + offset + length) as ArrayBuffer);
    },
  };
}
