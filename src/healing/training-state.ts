import { OptionError } from '../errors.js';
import { readFloat32 } from '../onnx/float-encoding.js';
import type { TensorHandle } from '../onnx/onnx-model.js';
import type { TensorStore } from '../runtime/tensor-store.js';
import { readGroup, type WeightGroups } from './weight-groups.js';

/** One point of the learning curve. */
export interface CurvePoint {
  /** Steps done. */
  readonly step: number;
  /** Mean divergence over the tokens of the step, before it was taken, in nats; absent at the start. */
  readonly train?: number;
  /** The same over the held-out windows, after the step; absent between two scores. */
  readonly heldOut?: number;
}

/** Where training stands, beside the weights. */
export interface TrainingFacts {
  /** Steps done. */
  readonly step: number;
  /** Times that the learning rate was halved. */
  readonly halvings: number;
  /** The best state so far: the steps it took, and its divergence on the held-out windows. */
  readonly best: { readonly step: number; readonly heldOut: number };
  /** Scores since then that were no better. */
  readonly idle: number;
  readonly curve: readonly CurvePoint[];
}

/** Training as one value that can be written and read: what comes after it is the same, byte for byte. */
export interface SavedTraining {
  readonly facts: TrainingFacts;
  /** Weights and moments by group, now and at the best state: float32 lists, by name. */
  readonly tensors: ReadonlyMap<string, TensorHandle>;
}

/** Weights in float32, and Adam's moments, one entry a group. */
export interface WeightStores {
  readonly weights: TensorStore;
  readonly first: TensorStore;
  readonly second: TensorStore;
}

const PARTS = ['weights', 'first', 'second'] as const;

/** The states that training goes on from, and back to. */
export interface TrainingStores {
  readonly now: WeightStores;
  readonly best: WeightStores;
  dispose(): Promise<void>;
}

/** @param createStore Makes a place for so many bytes. */
export async function createTrainingStores(
  groups: WeightGroups,
  createStore: (byteLength: number) => TensorStore | Promise<TensorStore>,
): Promise<TrainingStores> {
  const count = groups.all.reduce((sum, group) => sum + group.count, 0);
  const made: TensorStore[] = [];
  const create = async (): Promise<WeightStores> => {
    const stores: Partial<Record<(typeof PARTS)[number], TensorStore>> = {};
    for (const part of PARTS) {
      stores[part] = await createStore(count * Float32Array.BYTES_PER_ELEMENT);
      made.push(stores[part]);
    }
    return stores as WeightStores;
  };
  const dispose = async () => void (await Promise.all(made.map((store) => store.dispose())));
  try {
    return { now: await create(), best: await create(), dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** Puts the weights as the model has them, and moments of nothing. */
export async function fillStores({ all }: WeightGroups, { now, best }: TrainingStores): Promise<void> {
  for (const [at, group] of all.entries()) {
    for (const stores of [now, best]) {
      await putList(stores.weights, at, await readGroup(group));
      await putList(stores.first, at, new Float32Array(group.count));
      await putList(stores.second, at, new Float32Array(group.count));
    }
  }
}

export const putList = (store: TensorStore, at: number, data: Float32Array): Promise<void> =>
  store.put(at, { type: 'float32', dims: [data.length], data });

/** An entry as it is in the store: the same memory, until the store's next call. */
export const getList = async (store: TensorStore, at: number): Promise<Float32Array> =>
  (await store.get(at)).data as Float32Array;

/** Makes one state the same as another. */
export async function copyStores({ all }: WeightGroups, from: WeightStores, to: WeightStores): Promise<void> {
  for (const part of PARTS)
    for (const at of all.keys()) await putList(to[part], at, (await getList(from[part], at)).slice());
}

/** What `unpackTraining` goes on from; its tensors are read from the stores, which must not change meanwhile. */
export function packTraining(facts: TrainingFacts, groups: WeightGroups, stores: TrainingStores): SavedTraining {
  const tensors = new Map<string, TensorHandle>();
  for (const { name, store, at, count } of listEntries(groups, stores))
    tensors.set(name, entryHandle(store, at, count));
  return { facts, tensors };
}

/** @throws OptionError when the state is of other weights. */
export async function unpackTraining(
  { tensors }: SavedTraining,
  groups: WeightGroups,
  stores: TrainingStores,
): Promise<void> {
  for (const { name, store, at, count } of listEntries(groups, stores)) {
    const handle = tensors.get(name);
    const found = handle?.dims[0];
    if (handle === undefined || found !== count)
      throw new OptionError(
        `the saved training has ${found ?? 'no'} numbers in "${name}", expected ${count}: it is of another model or of other settings; start anew`,
      );
    await putList(store, at, await readFloat32(handle));
  }
}

function listEntries({ all }: WeightGroups, { now, best }: TrainingStores) {
  return Object.entries({ now, best }).flatMap(([state, stores]) =>
    PARTS.flatMap((part) =>
      all.map(({ count }, at) => ({ name: `${state}/${part}/${at}`, store: stores[part], at, count })),
    ),
  );
}

function entryHandle(store: TensorStore, at: number, count: number): TensorHandle {
  const byteLength = count * Float32Array.BYTES_PER_ELEMENT;
  return {
    dataType: 1,
    dims: [count],
    byteLength,
    async read({ offset, length } = { offset: 0, length: byteLength }) {
      const { buffer, byteOffset } = await getList(store, at);
      return new Uint8Array(buffer.slice(byteOffset + offset, byteOffset + offset + length) as ArrayBuffer);
    },
  };
}
