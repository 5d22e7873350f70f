import { type Batch, countTokens } from '../runtime/block-runner.js';
import type { Tensor, Tensors } from '../runtime/engine.js';
import { releaseTensor, releaseTensors } from '../runtime/tensor-memory.js';
import type { TensorStore } from '../runtime/tensor-store.js';
import type { LossHead } from './loss-head.js';
import type { Student } from './student.js';
import { getList, putAndFree, type TrainingStores } from './training-state.js';
import { feedOf, type WeightGroups } from './weight-groups.js';

/**
 * Relative cost of the parts of a step, with 1 for a block's forward pass. The backward pass of a block includes the
 * optimizer; the loss is a multiple of `logitsInBlocks`.
 */
export const WORK = { forward: 1, backward: 6, loss: 3 };

/** A student, its training data and stores. */
export interface Learning {
  readonly student: Student;
  readonly head: LossHead;
  readonly groups: WeightGroups;
  readonly stores: TrainingStores;
  /** Hidden states at the input of the first block, by index of the batch. */
  readonly inputs: Pick<TensorStore, 'get'>;
  /** The teacher's last hidden states, by index of the batch. */
  readonly targets: Pick<TensorStore, 'get'>;
  /** Store for the hidden states between blocks, for one step's batches. */
  readonly archive: TensorStore;
  /** Store for the cotangents between blocks. */
  readonly cotangents: TensorStore;
  /** Receives every group's gradient. */
  readonly gradients: TensorStore;
  /** See `logitsInBlocks`. */
  readonly lossBlocks: number;
  /** Called with finished work, see `WORK`. */
  readonly onRun?: ((units: number, detail: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Mean divergence over the tokens of some batches, and the norm of its gradient, which is written to the store by group. */
export async function differentiate(
  learning: Learning,
  batches: readonly Batch[],
  detail: string,
): Promise<{ readonly loss: number; readonly norm: number }> {
  const { student, cotangents, archive, gradients, groups, onRun } = learning;
  const count = batches.length;
  const carried = await runForwardPass(learning, batches, detail);
  const loss = await startAtLoss(learning, batches, detail);
  const carriedCotangents = batches.map((): Record<string, Tensor> => ({}));
  const shared = new Float32Array(groups.all[groups.shared]!.count);
  let squares = 0;
  for (let at = student.spans.length - 1; at >= 0; at -= 1) {
    const own = new Float32Array(groups.all[at]!.count);
    const sums = new Map([
      [at, own],
      [groups.shared, shared],
    ]);
    const weights = await feedsOf(learning, at);
    for (const [position, batch] of batches.entries()) {
      learning.signal?.throwIfAborted();
      const hidden = await (at === 0 ? learning.inputs.get(batch.index) : archive.get(at * count + position));
      const cotangent = await cotangents.get(position);
      const inputCotangents = await student.backward(at, {
        batch,
        hidden,
        weights,
        carried: carried[position]!,
        cotangent,
        carriedCotangents: carriedCotangents[position]!,
        sums,
      });
      if (inputCotangents.input !== undefined) {
        await cotangents.put(position, inputCotangents.input);
        releaseTensor(inputCotangents.input);
      }
      addCotangents(carriedCotangents[position]!, inputCotangents.carried);
      onRun?.(WORK.backward, detail);
    }
    squares += sumSquares(own);
    await putAndFree(gradients, at, own);
  }
  carried.forEach(releaseTensors);
  carriedCotangents.forEach(releaseTensors);
  squares += sumSquares(shared);
  await putAndFree(gradients, groups.shared, shared);
  return { loss, norm: Math.sqrt(squares) };
}

/** Mean divergence over the tokens of some batches. */
export async function measureLoss(learning: Learning, batches: readonly Batch[], detail: string): Promise<number> {
  const carried = await runForwardPass(learning, batches, detail);
  carried.forEach(releaseTensors);
  return startAtLoss(learning, batches, detail);
}

/**
 * Runs batches through all blocks and stores hidden states: entry `at * batches + position` of the archive is the input of block `at`.
 * @returns carried values of each batch by name, to be released by the caller
 */
async function runForwardPass(
  learning: Learning,
  batches: readonly Batch[],
  detail: string,
): Promise<readonly Tensors[]> {
  const { student, archive, inputs, onRun } = learning;
  const count = batches.length;
  const carried = batches.map((): Record<string, Tensor> => ({}));
  for (const at of student.spans.keys()) {
    const weights = await feedsOf(learning, at);
    for (const [position, batch] of batches.entries()) {
      learning.signal?.throwIfAborted();
      const hidden = await (at === 0 ? inputs.get(batch.index) : archive.get(at * count + position));
      const values = carried[position]!;
      const { output, computed } = await student.forward(at, { batch, hidden, weights, carried: values });
      Object.assign(values, computed);
      await archive.put((at + 1) * count + position, output);
      releaseTensor(output);
      onRun?.(WORK.forward, detail);
    }
  }
  return carried;
}

/** Adds a block's cotangents of carried values to `sums`, in place. */
function addCotangents(sums: Record<string, Tensor>, more: Tensors): void {
  for (const [name, cotangent] of Object.entries(more)) {
    const sum = sums[name];
    if (sum === undefined) {
      sums[name] = cotangent;
      continue;
    }
    const [values, added] = [sum.data as Float32Array, cotangent.data as Float32Array];
    for (let at = 0; at < values.length; at += 1) values[at]! += added[at]!;
    releaseTensor(cotangent);
  }
}

/** Mean divergence over the tokens of some batches, from the last hidden states; their cotangents are stored. */
async function startAtLoss(learning: Learning, batches: readonly Batch[], detail: string): Promise<number> {
  const { student, archive, cotangents, targets, head, onRun } = learning;
  const scale = 1 / countTokens(batches);
  let total = 0;
  for (const [position, batch] of batches.entries()) {
    learning.signal?.throwIfAborted();
    const target = await targets.get(batch.index);
    const hidden = await archive.get(student.spans.length * batches.length + position);
    const { loss, cotangent } = await head.run({ batch, target, hidden, scale });
    await cotangents.put(position, cotangent);
    releaseTensor(cotangent);
    onRun?.(WORK.loss * learning.lossBlocks, detail);
    total += loss;
  }
  return total;
}

/** Current values of the trained weights that a block reads. */
async function feedsOf({ groups, stores }: Learning, at: number): Promise<Tensors> {
  const feeds: Record<string, Tensors[string]> = {};
  // Shared weights first, as a copy, since the store reuses its memory.
  for (const group of groups.of(at).toReversed()) {
    const stored = await getList(stores.now.weights, group);
    const values = group === groups.shared ? stored.slice() : stored;
    for (const weight of groups.all[group]!.weights)
      if (weight.spans.includes(at)) feeds[weight.name] = feedOf(weight, values);
  }
  return feeds;
}

function sumSquares(values: Float32Array): number {
  let sum = 0;
  for (let at = 0; at < values.length; at += 1) sum += values[at]! * values[at]!;
  return sum;
}
