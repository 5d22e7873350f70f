import { NumericalError } from '../errors.js';
import type { Batch } from '../runtime/block-runner.js';
import type { Tensors } from '../runtime/engine.js';
import { releaseTensor } from '../runtime/tensor-memory.js';
import type { TensorStore } from '../runtime/tensor-store.js';
import { scheduleRate, stepAdam } from './adam.js';
import type { LossHead } from './loss-head.js';
import type { Student } from './student.js';
import {
  copyStores,
  getList,
  packTraining,
  putList,
  type SavedTraining,
  type TrainingFacts,
  type TrainingStores,
} from './training-state.js';
import { feedsOfGroup, type WeightGroups } from './weight-groups.js';

/** A student, what it learns from, and where its states are. */
export interface Training {
  readonly student: Student;
  readonly head: LossHead;
  readonly groups: WeightGroups;
  readonly stores: TrainingStores;
  /** Hidden states at the input of the first block, by index of the batch. */
  readonly inputs: Pick<TensorStore, 'get'>;
  /** The teacher's last hidden states, by index of the batch. */
  readonly targets: Pick<TensorStore, 'get'>;
  /** Room for the hidden states between blocks of one step's batches. */
  readonly archive: TensorStore;
  /** The same for cotangents. */
  readonly cotangents: TensorStore;
  /** Gets every group's gradient. */
  readonly gradients: TensorStore;
  /** Batches of every step of one pass. */
  readonly steps: readonly (readonly Batch[])[];
  readonly passCount: number;
  readonly heldOut: readonly Batch[];
  /** Steps from one score of the held-out windows to the next. */
  readonly scoreEvery: number;
  /** The highest rate of the schedule. */
  readonly learningRate: number;
  /** Hears of every block that has run, forwards as 1, backwards as 3. */
  readonly onRun?: ((units: number, detail: string) => void) | undefined;
  /** Called after every step with what a later run can go on from; it must be read before this returns. */
  readonly onStep?: ((save: () => SavedTraining) => Promise<void>) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Largest norm of a step's gradient; a larger one is shortened to it. */
const LARGEST_NORM = 1;

/** Times that the rate is halved before training gives up. */
const MOST_HALVINGS = 3;

/** Scores no better than the best before training ends. */
const PATIENCE = 2;

/** A step's divergence beyond so many times the start's, and so many nats more, has left the road. */
const DIVERGED = { factor: 3, nats: 0.1 };

/**
 * Trains until the windows are used up or the held-out ones no longer profit. The best state is that of lowest divergence on
 * those; it is the start's where no step was better.
 * @param from Facts to go on from, with the stores as they were then; absent: from the start.
 * @throws NumericalError when the loss is no number or grows again and again at half the rate; the best state is in the stores.
 */
export async function train(training: Training, from?: TrainingFacts): Promise<TrainingFacts> {
  const { steps, passCount, groups, stores, scoreEvery } = training;
  const stepCount = steps.length * passCount;
  let facts = from ?? (await startFacts(training));
  while (facts.step < stepCount && facts.idle < PATIENCE) {
    const step = facts.step + 1;
    const { loss, isSound } = await takeStep(training, { step, stepCount, facts });
    const isScored = isSound && (step % scoreEvery === 0 || step === stepCount);
    const heldOut = isScored ? await score(training) : undefined;
    if (!isSound || (heldOut !== undefined && !Number.isFinite(heldOut))) {
      facts = await goBack(training, facts, loss);
    } else {
      facts = addPoint(facts, { step, train: loss, ...(heldOut !== undefined && { heldOut }) });
      if (facts.best.step === step) await copyStores(groups, stores.now, stores.best);
    }
    await training.onStep?.(() => packTraining(facts, groups, stores));
  }
  return facts;
}

async function startFacts(training: Training): Promise<TrainingFacts> {
  const heldOut = await score(training);
  if (!Number.isFinite(heldOut))
    throw new NumericalError(
      `the divergence of the pruned model from the dense one is ${heldOut} before healing; check the weights of both`,
    );
  return { step: 0, halvings: 0, best: { step: 0, heldOut }, idle: 0, curve: [{ step: 0, heldOut }] };
}

function addPoint(facts: TrainingFacts, point: TrainingFacts['curve'][number]): TrainingFacts {
  const { step, heldOut } = point;
  const curve = [...facts.curve, point];
  if (heldOut === undefined) return { ...facts, step, curve };
  return heldOut < facts.best.heldOut
    ? { ...facts, step, curve, best: { step, heldOut }, idle: 0 }
    : { ...facts, step, curve, idle: facts.idle + 1 };
}

/** The best state again, to go on from at half the rate. */
async function goBack(
  { groups, stores, learningRate }: Training,
  facts: TrainingFacts,
  loss: number,
): Promise<TrainingFacts> {
  const { best, curve } = facts;
  await copyStores(groups, stores.best, stores.now);
  if (facts.halvings === MOST_HALVINGS)
    throw new NumericalError(
      `healing diverges: after step ${best.step} the divergence became ${loss}, though the learning rate was halved ` +
        `${MOST_HALVINGS} times from ${learningRate}; set a lower one, or give more windows`,
    );
  const halvings = facts.halvings + 1;
  return { step: best.step, halvings, best, idle: 0, curve: curve.filter(({ step }) => step <= best.step) };
}

interface StepPlace {
  /** From 1. */
  readonly step: number;
  readonly stepCount: number;
  readonly facts: TrainingFacts;
}

/** One step of the optimiser, unless the loss or its gradient is out of bounds. */
async function takeStep(training: Training, { step, stepCount, facts }: StepPlace) {
  const { steps, groups, learningRate } = training;
  const batches = steps[(step - 1) % steps.length]!;
  const { loss, norm } = await differentiate(training, batches, `step ${step} of ${stepCount}`);
  const limit = DIVERGED.factor * facts.curve[0]!.heldOut! + DIVERGED.nats;
  const isSound = Number.isFinite(norm) && loss <= limit;
  if (isSound) {
    const rate = learningRate * scheduleRate(step, stepCount) * 0.5 ** facts.halvings;
    const scale = Math.min(1, LARGEST_NORM / norm);
    for (const at of groups.all.keys()) await moveGroup(training, at, { step, scale, learningRate: rate });
  }
  return { loss, isSound };
}

async function moveGroup(
  { stores: { now }, gradients }: Training,
  at: number,
  given: { readonly step: number; readonly scale: number; readonly learningRate: number },
): Promise<void> {
  const gradient = await getList(gradients, at);
  const weights = await getList(now.weights, at);
  const moments = { first: await getList(now.first, at), second: await getList(now.second, at) };
  stepAdam(weights, moments, { ...given, gradient });
  await putList(now.weights, at, weights);
  await putList(now.first, at, moments.first);
  await putList(now.second, at, moments.second);
}

/** Mean divergence over the tokens of some batches, with its gradient by every group in the store, and the gradient's norm. */
async function differentiate(
  training: Training,
  batches: readonly Batch[],
  detail: string,
): Promise<{ readonly loss: number; readonly norm: number }> {
  const { student, cotangents, archive, gradients, groups, onRun } = training;
  const count = batches.length;
  await goForwards(training, batches, detail);
  const loss = await startAtLoss(training, batches);
  const shared = new Float32Array(groups.all[groups.shared]!.count);
  let squares = 0;
  for (let at = student.spans.length - 1; at >= 0; at -= 1) {
    const own = new Float32Array(groups.all[at]!.count);
    const sums = new Map([
      [at, own],
      [groups.shared, shared],
    ]);
    const weights = await feedsOf(training, at);
    for (const [position, batch] of batches.entries()) {
      training.signal?.throwIfAborted();
      const hidden = await (at === 0 ? training.inputs.get(batch.index) : archive.get(at * count + position));
      const cotangent = await cotangents.get(position);
      const passed = await student.backward(at, { batch, hidden, weights, cotangent, sums });
      if (passed !== undefined) {
        await cotangents.put(position, passed);
        releaseTensor(passed);
      }
      onRun?.(3, detail);
    }
    squares += sumSquares(own);
    await putList(gradients, at, own);
  }
  await putList(gradients, groups.shared, shared);
  return { loss, norm: Math.sqrt(squares + sumSquares(shared)) };
}

/** Hidden states of some batches through all blocks: entry `at * batches + position` of the archive is the input of block `at`. */
async function goForwards(training: Training, batches: readonly Batch[], detail: string): Promise<void> {
  const { student, archive, inputs, onRun } = training;
  const count = batches.length;
  for (const at of student.spans.keys()) {
    const weights = await feedsOf(training, at);
    for (const [position, batch] of batches.entries()) {
      training.signal?.throwIfAborted();
      const hidden = await (at === 0 ? inputs.get(batch.index) : archive.get(at * count + position));
      const output = await student.forward(at, { batch, hidden, weights });
      await archive.put((at + 1) * count + position, output);
      releaseTensor(output);
      onRun?.(1, detail);
    }
  }
}

/** Mean divergence over the tokens of some batches, from the last hidden states; their cotangents go into the store. */
async function startAtLoss(training: Training, batches: readonly Batch[]): Promise<number> {
  const { student, archive, cotangents, targets, head } = training;
  const scale = 1 / batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
  let total = 0;
  for (const [position, batch] of batches.entries()) {
    training.signal?.throwIfAborted();
    const target = await targets.get(batch.index);
    const hidden = await archive.get(student.spans.length * batches.length + position);
    const { loss, cotangent } = await head.run({ batch, target, hidden, scale });
    await cotangents.put(position, cotangent);
    total += loss;
  }
  return total;
}

/** Mean divergence over the tokens of the held-out windows, a step's number of batches at a time. */
async function score(training: Training): Promise<number> {
  const { heldOut, steps } = training;
  const atOnce = steps[0]?.length ?? 1;
  let sum = 0;
  let tokenCount = 0;
  for (let start = 0; start < heldOut.length; start += atOnce) {
    const batches = heldOut.slice(start, start + atOnce);
    const tokens = batches.reduce((total, batch) => total + batch.tokens.length, 0);
    await goForwards(training, batches, 'held-out windows');
    sum += tokens * (await startAtLoss(training, batches));
    tokenCount += tokens;
  }
  return sum / tokenCount;
}

/** Trained weights of a block as they are now. */
async function feedsOf({ groups, stores }: Training, at: number): Promise<Tensors> {
  // The shared ones first, in a copy: the store hands out its memory once more.
  const feeds: Record<string, Tensors[string]> = {};
  for (const group of groups.of(at).toReversed()) {
    const values = await getList(stores.now.weights, group);
    Object.assign(feeds, feedsOfGroup(groups.all[group]!, group === groups.shared ? values.slice() : values));
  }
  return onlyRead(feeds, groups, at);
}

/** A graph is fed what it reads and nothing else. */
function onlyRead(feeds: Tensors, { all }: WeightGroups, at: number): Tensors {
  const read = new Set(
    all.flatMap(({ weights }) => weights.filter(({ spans }) => spans.includes(at))).map(({ name }) => name),
  );
  return Object.fromEntries(Object.entries(feeds).filter(([name]) => read.has(name)));
}

function sumSquares(values: Float32Array): number {
  let sum = 0;
  for (let at = 0; at < values.length; at += 1) sum += values[at]! * values[at]!;
  return sum;
}
