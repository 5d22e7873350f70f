import { OptionError } from '../errors.js';
import { encodeFloats } from '../onnx/float-encoding.js';
import type { TensorHandle } from '../onnx/onnx-model.js';
import { checkRequest, type HealingRequest, rateOf, startTraining } from './start-training.js';
import { MAX_HALVINGS, train } from './train.js';
import type { TrainedName } from './trained-weights.js';
import { bestWeights, type CurvePoint, getList, type TrainingFacts } from './training-state.js';
import { sliceOf, type WeightGroups } from './weight-groups.js';

export { checkSameBase } from './check-same-base.js';
export type { HealingRequest, HealingSettings } from './start-training.js';
export type { TrainedName } from './trained-weights.js';
export type { CurvePoint, SavedTraining, TrainingFacts } from './training-state.js';

/** Result of healing, as plain data. */
export interface HealingReport {
  readonly windowCount: number;
  readonly heldOutCount: number;
  readonly windowLength: number;
  readonly trained: TrainedName;
  /** Numbers that were trained. */
  readonly trainedCount: number;
  readonly windowsPerStep: number;
  readonly passCount: number;
  readonly learningRate: number;
  /** Number of halvings of the learning rate, see `train`. */
  readonly halvings: number;
  /** KL(dense || pruned) in nats per token on the held-out windows, before and after. */
  readonly divergence: { readonly before: number; readonly after: number };
  /** Step of the best weights; 0: no step was better than the pruned model. */
  readonly keptStep: number;
  readonly curve: readonly CurvePoint[];
  /** Present if healing used the best weights of an interrupted run without further training. */
  readonly stopped?: true;
}

export interface Healed {
  /** Changed weights in the file's data type; empty where no step was better. */
  readonly changed: ReadonlyMap<string, TensorHandle>;
  readonly report: HealingReport;
}

/**
 * Trains the blocks of a pruned model to predict what the dense one predicts: KL(dense || pruned) at every position,
 * AdamW on float32 weights. Weights, moments and hidden states are in stores, so that memory depends on one block.
 *
 * @throws OptionError without windows; UnsupportedModelError if the pruned model is not from the dense one, or an operator
 *   has no gradient; NumericalError if training diverges and no step was better.
 * @see Minitron (arXiv 2407.14679), section 3; self-data distillation (arXiv 2410.09982)
 */
export async function healModel(request: HealingRequest): Promise<Healed> {
  try {
    return await (request.stop ? useCheckpoint(request) : runTraining(request));
  } finally {
    await request.from?.release?.();
  }
}

async function runTraining(request: HealingRequest): Promise<Healed> {
  const training = await startTraining(request);
  try {
    const { groups, stores } = training;
    const facts = await train(training, request.from?.facts);
    return await finish(request, { groups, facts, read: (at) => getList(stores.best.weights, at) });
  } finally {
    await training.dispose();
  }
}

/** Remarks about healing. */
export function remarkHealing({ keptStep, halvings, stopped }: HealingReport): string[] {
  const isOver = halvings > MAX_HALVINGS;
  return [
    ...(keptStep === 0
      ? [
          `healing changed nothing: no step ${stopped ? 'so far ' : ''}brought the model closer to the dense one on held-out windows`,
        ]
      : []),
    ...(isOver
      ? [
          `healing diverged after step ${keptStep}, though the learning rate was halved ${MAX_HALVINGS} times; the weights are those of that step. Set a lower rate, or give more windows`,
        ]
      : []),
  ];
}

/** Returns the best weights of an earlier run. */
async function useCheckpoint(request: HealingRequest): Promise<Healed> {
  const { groups } = await checkRequest(request);
  const { from } = request;
  if (from === undefined)
    throw new OptionError(
      'there is no healing checkpoint to stop at: no earlier run of the same request wrote one. Resume it without stopHealing',
      { option: 'stopHealing' },
    );
  const { changed, report } = await finish(request, { groups, facts: from.facts, read: bestWeights(from, groups) });
  return { changed, report: { ...report, stopped: true } };
}

interface TrainedState {
  readonly groups: WeightGroups;
  readonly facts: TrainingFacts;
  /** Reads the best weights of a group; called in the order of groups. */
  read(at: number): Promise<Float32Array>;
}

async function finish(request: HealingRequest, { groups, facts, read }: TrainedState): Promise<Healed> {
  const { windows, heldOut, settings } = request;
  const changed = facts.best.step === 0 ? new Map() : await encodeWeights(request, groups, read);
  return {
    changed,
    report: {
      windowCount: windows.length,
      heldOutCount: heldOut.length,
      windowLength: windows[0]!.length,
      trained: settings.trained,
      trainedCount: groups.all.reduce((sum, { count }) => sum + count, 0),
      windowsPerStep: settings.windowsPerStep,
      passCount: settings.passCount,
      learningRate: rateOf(request),
      halvings: facts.halvings,
      divergence: { before: facts.curve[0]!.heldOut!, after: facts.best.heldOut },
      keptStep: facts.best.step,
      curve: facts.curve,
    },
  };
}

async function encodeWeights(
  { store }: HealingRequest,
  { all }: WeightGroups,
  read: TrainedState['read'],
): Promise<Map<string, TensorHandle>> {
  const changed = new Map<string, TensorHandle>();
  for (const [at, group] of all.entries()) {
    const values = await read(at);
    for (const weight of group.weights) {
      const { dataType, dims } = weight.handle;
      changed.set(weight.name, await store({ dataType, dims }, encodeFloats(dataType, sliceOf(values, weight))));
    }
  }
  return changed;
}
