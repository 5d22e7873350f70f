import { NumericalError } from '../errors.js';
import { type Batch, countTokens } from '../runtime/block-runner.js';
import type { TensorStore } from '../runtime/tensor-store.js';
import { scheduleRate, stepAdam } from './adam.js';
import { differentiate, type Learning, measureLoss } from './differentiate.js';
import {
  getList,
  packTraining,
  putAndFree,
  putList,
  type SavedTraining,
  type TrainingFacts,
  type TrainingStores,
} from './training-state.js';

/** A training run: data, schedule and callbacks. */
export interface Training extends Learning {
  /** Batches of every step of one pass. */
  readonly steps: readonly (readonly Batch[])[];
  readonly passCount: number;
  readonly heldOut: readonly Batch[];
  /** Steps from one score of the held-out windows to the next. */
  readonly scoreEvery: number;
  /** The highest rate of the schedule. */
  readonly learningRate: number;
  /** Called after every step with the state that a later run can resume from; it must be read before this returns. */
  readonly onStep?: ((save: () => SavedTraining) => Promise<void>) | undefined;
  /** Called with the number of steps that are repeated at a lower rate. */
  readonly onRepeat?: ((stepCount: number) => void) | undefined;
}

/** Gradient clipping: largest norm of a step's gradient. */
const MAX_GRADIENT_NORM = 1;

/** Most halvings of the learning rate before training counts as diverged. */
export const MAX_HALVINGS = 3;

/** Early stopping: consecutive scores without improvement. */
const PATIENCE = 2;

/** Training has diverged when the divergence exceeds `factor` times the initial one plus `nats`. */
const DIVERGED = { factor: 3, nats: 0.1 };

/** Largest divergence on the held-out windows with which training continues. */
const limitOf = ({ curve }: TrainingFacts): number => DIVERGED.factor * curve[0]!.heldOut! + DIVERGED.nats;

/**
 * Trains until the windows are used up, or the held-out divergence no longer decreases. The best state is the one of
 * lowest held-out divergence, possibly the initial one. If training diverges (NaN included), if the first score is
 * clearly worse than the initial one, or if training would end without improvement, it returns to the best state and
 * continues at half the rate. If it diverges again after `MAX_HALVINGS` halvings, it ends.
 * @param from Facts to resume from, with the stores of the same step. Absent: starts from the beginning.
 * @throws NumericalError if it diverges and no step was better than the start.
 */
export async function train(training: Training, from?: TrainingFacts): Promise<TrainingFacts> {
  const { steps, passCount, groups, stores, scoreEvery } = training;
  const stepCount = steps.length * passCount;
  let facts = from ?? (await startFacts(training));
  // A run may resume from its last checkpoint.
  while (facts.step < stepCount && facts.idle < PATIENCE && !(hasEnded(facts) && facts.best.step > 0)) {
    const step = facts.step + 1;
    const { loss, isValid } = await takeStep(training, { step, stepCount, facts });
    const isScored = isValid && (step % scoreEvery === 0 || step === stepCount);
    const heldOut = isScored ? await score(training) : undefined;
    const hasDiverged = !isValid || (heldOut !== undefined && !(heldOut <= limitOf(facts)));
    const next = addPoint(facts, { step, train: loss, ...(heldOut !== undefined && { heldOut }) });
    if (hasDiverged || isRateTooHigh(facts, heldOut) || hasNoBetterStep(next)) {
      stores.revert();
      training.onRepeat?.(step - facts.best.step);
      facts = atHalfTheRate(facts);
    } else {
      facts = next;
      if (facts.best.step === step) stores.markBest();
    }
    await training.onStep?.(() => packTraining(facts, groups, stores));
    if (hasEnded(facts) && facts.best.step === 0) throw divergence(training, heldOut ?? loss);
  }
  return facts;
}

/** Whether training diverged again after all halvings. */
const hasEnded = ({ halvings }: TrainingFacts): boolean => halvings > MAX_HALVINGS;

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
  const before = facts.curve.findLast((earlier) => earlier.heldOut !== undefined)!.heldOut!;
  const idle = heldOut < before ? 0 : facts.idle + 1;
  const best = heldOut < facts.best.heldOut ? { step, heldOut } : facts.best;
  return { ...facts, step, curve, idle, best };
}

/** A first score above this multiple of the initial one means that the rate is too high. */
const MAX_FIRST_RATIO = 1.03;

/** Whether the first score shows that the rate is too high for a model so close to the dense one. */
const isRateTooHigh = ({ curve, halvings }: TrainingFacts, heldOut: number | undefined): boolean => {
  const isFirst = curve.filter((point) => point.heldOut !== undefined).length === 1;
  return isFirst && heldOut !== undefined && heldOut > MAX_FIRST_RATIO * curve[0]!.heldOut! && halvings < MAX_HALVINGS;
};

/** Whether training would end without improvement, so that half the rate should be tried. */
const hasNoBetterStep = ({ idle, best, halvings }: TrainingFacts): boolean =>
  idle >= PATIENCE && best.step === 0 && halvings < MAX_HALVINGS;

/** State to continue from the best one at half the rate. */
function atHalfTheRate({ best, curve, halvings }: TrainingFacts): TrainingFacts {
  const untilBest = curve.filter(({ step }) => step <= best.step);
  return { step: best.step, halvings: halvings + 1, best, idle: 0, curve: untilBest };
}

function divergence({ learningRate }: Training, loss: number): NumericalError {
  return new NumericalError(
    `healing diverges: after the first steps the divergence became ${loss}, though the learning rate was halved ` +
      `${MAX_HALVINGS} times from ${learningRate}; set a lower one, or give more windows`,
  );
}

interface StepPlace {
  /** From 1. */
  readonly step: number;
  readonly stepCount: number;
  readonly facts: TrainingFacts;
}

/** One optimizer step, unless the gradient is NaN or training has diverged. */
async function takeStep(training: Training, { step, stepCount, facts }: StepPlace) {
  const { steps, groups, stores, learningRate } = training;
  const batches = steps[(step - 1) % steps.length]!;
  const { loss, norm } = await differentiate(training, batches, `step ${step} of ${stepCount}`);
  const limit = limitOf(facts);
  // A few windows may be hard: divergence is checked on the same windows as at the start.
  const isValid = Number.isFinite(norm) && (loss <= limit || (await score(training)) <= limit);
  if (isValid) {
    const rate = learningRate * scheduleRate(step, stepCount) * 0.5 ** facts.halvings;
    const scale = Math.min(1, MAX_GRADIENT_NORM / norm);
    const places = stores.advance();
    for (const at of groups.all.keys()) await moveGroup(training, at, { step, scale, learningRate: rate, ...places });
  }
  return { loss, isValid };
}

interface Move extends ReturnType<TrainingStores['advance']> {
  readonly step: number;
  readonly scale: number;
  readonly learningRate: number;
}

async function moveGroup({ gradients }: Training, at: number, { from, to, ...given }: Move): Promise<void> {
  const gradient = await getList(gradients, at);
  // The best state must not be overwritten.
  const get = async (store: TensorStore) => (from === to ? getList(store, at) : (await getList(store, at)).slice());
  const put = from === to ? putList : putAndFree;
  const weights = await get(from.weights);
  const moments = { first: await get(from.first), second: await get(from.second) };
  stepAdam(weights, moments, { ...given, gradient });
  await put(to.weights, at, weights);
  await put(to.first, at, moments.first);
  await put(to.second, at, moments.second);
}

/** Mean divergence over the tokens of the held-out windows, as many batches at a time as in a step. */
async function score(training: Training): Promise<number> {
  const { heldOut, steps } = training;
  const atOnce = steps[0]?.length ?? 1;
  let sum = 0;
  let tokenCount = 0;
  for (let start = 0; start < heldOut.length; start += atOnce) {
    const batches = heldOut.slice(start, start + atOnce);
    const tokens = countTokens(batches);
    sum += tokens * (await measureLoss(training, batches, 'held-out windows'));
    tokenCount += tokens;
  }
  return sum / tokenCount;
}
