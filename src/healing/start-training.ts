import { type BlockSpan, blockSpans, logitsInBlocks } from '../architecture/layout.js';
import { OptionError, UnsupportedModelError } from '../errors.js';
import type { GraphIndex } from '../onnx/graph-index.js';
import type { TensorHandle } from '../onnx/onnx-model.js';
import type { TensorShape } from '../onnx/tensor-handle.js';
import type { AnalysedModel, UnderstoodModel } from '../runtime/analyse-model.js';
import {
  type Batch,
  type BlockRunner,
  createBlockRunner,
  indexRunGraph,
  makeBatches,
  type SideValues,
} from '../runtime/block-runner.js';
import type { Engine } from '../runtime/engine.js';
import type { TensorStore } from '../runtime/tensor-store.js';
import { learningRateOf } from './adam.js';
import { type CarriedValues, findCarried } from './carried-values.js';
import { WORK } from './differentiate.js';
import { createLossHead } from './loss-head.js';
import { createStudent } from './student.js';
import type { Training } from './train.js';
import { findTrainedWeights, type TrainedName } from './trained-weights.js';
import { createTrainingStores, fillStores, type SavedTraining, unpackTraining } from './training-state.js';
import { groupWeights, type WeightGroups } from './weight-groups.js';

/** Training settings. */
export interface HealingSettings {
  readonly trained: TrainedName;
  /** Windows of one step of the optimiser, at least 1. */
  readonly windowsPerStep: number;
  /** Passes over the windows (epochs), at least 1. */
  readonly passCount: number;
  /** The highest rate of the schedule. Absent: by the size of the model, see `learningRateOf`. */
  readonly learningRate: number | undefined;
}

export interface HealingRequest {
  readonly engine: Engine;
  /** The dense model. */
  readonly teacher: UnderstoodModel;
  /** The pruned model, which is not modified. */
  readonly student: UnderstoodModel;
  /** Training windows of equal length, at least one. */
  readonly windows: readonly Int32Array[];
  /** Held-out windows of that length, at least one. */
  readonly heldOut: readonly Int32Array[];
  readonly settings: HealingSettings;
  /** Creates a store of that size. */
  createStore(byteLength: number): TensorStore | Promise<TensorStore>;
  /** Stores healed weights until the model is saved. */
  readonly store: (shape: TensorShape, bytes: Uint8Array<ArrayBuffer>) => TensorHandle | Promise<TensorHandle>;
  /** Called with progress: `done` of `total`. */
  readonly onProgress?: ((done: number, total: number, detail: string) => void) | undefined;
  /** State of an earlier run with the same request. */
  readonly from?: SavedTraining | undefined;
  /** Returns the best state of `from` without further training. Default false. */
  readonly stop?: boolean | undefined;
  /** See `Training.onStep`. */
  readonly onStep?: Training['onStep'];
  readonly signal?: AbortSignal | undefined;
}

/** Tokens that run through a block together. */
const TOKENS_PER_BATCH = 1024;

/** Number of scores of the held-out windows during training. */
const SCORES = 4;

/** Training before its first step. */
export interface StartedTraining extends Training {
  dispose(): Promise<void>;
}

/**
 * Prepares training: computes the dense model's last hidden states and the pruned model's first ones over all windows,
 * and compiles all graphs.
 * @throws OptionError, UnsupportedModelError; see `healModel`.
 */
export async function startTraining(request: HealingRequest): Promise<StartedTraining> {
  const cleanups: (() => Promise<unknown>)[] = [];
  // A failure does not prevent the other cleanups.
  const dispose = async (): Promise<void> => {
    try {
      await cleanups.shift()?.();
    } finally {
      if (cleanups.length > 0) await dispose();
    }
  };
  try {
    const own = <T extends { dispose(): Promise<unknown> }>(resource: T): T => {
      cleanups.unshift(() => resource.dispose());
      return resource;
    };
    return { ...(await prepare(request, own)), dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** @param own Registers a resource to dispose when training ends. */
async function prepare(
  request: HealingRequest,
  own: <T extends { dispose(): Promise<unknown> }>(resource: T) => T,
): Promise<Training> {
  const { engine, teacher, student, settings, signal } = request;
  const { index, spans, carried, groups } = await checkRequest(request);
  const batching = planBatches(request);
  const lossBlocks = logitsInBlocks(student.analysed.detected.layout);
  const progress = startProgress(request, batching, { spanCount: spans.length, lossBlocks });
  const createStore = async (byteLength: number) => own(await request.createStore(byteLength));
  const { training: steps, heldOut: checks, all, perStep, stateBytes } = batching;
  const run = async ({ model, analysed }: UnderstoodModel, batches: readonly Batch[], stageCount: number) => {
    const states = await request.createStore(batches.length * stateBytes);
    const { facts, tokenInput } = analysed;
    const { cuts } = analysed.detected.partition;
    const options = { engine, model, batches, states, signal, cuts, facts, tokenInput };
    const runner = createBlockRunner({ ...options, isFixed: true });
    return own(await runStages(runner, stageCount, progress.stage));
  };
  const targets = await run(teacher, all, stagesOf(teacher.analysed));
  const inputs = await run(student, all, 1);
  const fixedStages = carried.fixed.map(({ stage }) => stage + 1);
  const runs = [
    inputs,
    ...(fixedStages.length > 0 ? [await run(student, all, Math.max(...fixedStages))] : []),
    await run(student, oneOfEachSize(all), stagesOf(student.analysed)),
  ];
  const side = joinSides(runs, carried);
  const stores = own(await createTrainingStores(groups, request.createStore));
  const weightBytes = groups.all.reduce((sum, { count }) => sum + count, 0) * Float32Array.BYTES_PER_ELEMENT;
  const trainee = createStudent({ engine, ...student, index, spans, groups, side, carried: carried.changing });
  own({ dispose: trainee.release });
  const head = await createLossHead({ engine, teacher, student });
  own({ dispose: head.release });
  const learningRate = rateOf(request);
  const { passCount } = settings;
  if (request.from === undefined) await fillStores(groups, stores);
  else await unpackTraining(request.from, groups, stores);
  return {
    student: trainee,
    head,
    groups,
    stores,
    inputs: inputs.states,
    targets: targets.states,
    archive: await createStore((spans.length + 1) * perStep * stateBytes),
    cotangents: await createStore(perStep * stateBytes),
    gradients: await createStore(weightBytes),
    steps,
    passCount,
    heldOut: checks,
    scoreEvery: Math.max(1, Math.ceil((steps.length * passCount) / SCORES)),
    learningRate,
    lossBlocks,
    onRun: progress.run,
    onRepeat: progress.repeat,
    onStep: request.onStep,
    signal,
  };
}

/** The pruned model, prepared for training. */
interface CheckedStudent {
  readonly index: GraphIndex;
  readonly spans: readonly BlockSpan[];
  readonly carried: CarriedValues;
  /** Trained weights. */
  readonly groups: WeightGroups;
}

/** Checks a request, and finds the weights to train. @throws OptionError, UnsupportedModelError */
export async function checkRequest(request: HealingRequest): Promise<CheckedStudent> {
  const { student, windows, heldOut, settings } = request;
  const index = indexRunGraph(student.model);
  if (windows.length === 0 || heldOut.length === 0)
    throw new OptionError(
      `healing has ${windows.length} windows to train on and ${heldOut.length} to check itself on; give at least one of each`,
    );
  const spans = blockSpans(student.analysed.detected.layout);
  const carried = findCarried(student.analysed, index, spans);
  const found = findTrainedWeights({ ...student, index, spans, carried, trained: settings.trained });
  if (found.length === 0)
    throw new UnsupportedModelError(
      'no weight of the blocks can be trained; healing needs float weights in linear layers',
    );
  return { index, spans, carried, groups: groupWeights(found, spans.length) };
}

/** The highest learning rate. */
export const rateOf = ({ teacher, settings }: HealingRequest): number =>
  settings.learningRate ?? learningRateOf(teacher.analysed.detected.layout.parameterCount);

interface Batching {
  /** Batches of every step. */
  readonly training: readonly (readonly Batch[])[];
  readonly heldOut: readonly Batch[];
  readonly all: readonly Batch[];
  /** Batches of an entire step. */
  readonly perStep: number;
  /** Bytes of a batch's hidden states, at most. */
  readonly stateBytes: number;
}

function planBatches({ windows, heldOut, settings, student: { analysed } }: HealingRequest): Batching {
  const windowLength = windows[0]!.length;
  const fitting = Math.min(analysed.rowLimit, Math.max(1, Math.round(TOKENS_PER_BATCH / windowLength)));
  const perStep = Math.ceil(settings.windowsPerStep / fitting);
  const batchSize = Math.ceil(settings.windowsPerStep / perStep);
  const batches = makeBatches(windows, batchSize);
  const checks = makeBatches(heldOut, batchSize).map((batch) => ({
    ...batch,
    index: batches.length + batch.index,
    firstToken: windows.length * windowLength + batch.firstToken,
  }));
  const training = Array.from({ length: Math.ceil(batches.length / perStep) }, (_, step) =>
    batches.slice(step * perStep, (step + 1) * perStep),
  );
  const { hiddenSize } = analysed.detected.layout;
  const stateBytes = batchSize * windowLength * hiddenSize * Float32Array.BYTES_PER_ELEMENT;
  return { training, heldOut: checks, all: [...batches, ...checks], perStep, stateBytes };
}

/** One batch of each size: side values depend on the batch size, and rarely on tokens. */
const oneOfEachSize = (batches: readonly Batch[]): Batch[] =>
  batches.filter(({ batchSize }, at) => batches.findIndex((other) => other.batchSize === batchSize) === at);

/** Joins the fixed side values of several passes. If several have a value, the first pass is used. */
function joinSides(
  runs: readonly { readonly side: SideValues }[],
  { isFixed }: CarriedValues,
): Pick<SideValues, 'has' | 'get'> {
  const find = (name: string) => runs.find(({ side }) => side.has(name))?.side;
  return {
    has: (name) => isFixed(name) && find(name) !== undefined,
    get: (name, batch) => find(name)!.get(name, batch),
  };
}

/** Tracks progress by work, see `WORK`. */
function startProgress(
  { onProgress, teacher, settings }: HealingRequest,
  { training, heldOut, all }: Batching,
  { spanCount, lossBlocks }: { readonly spanCount: number; readonly lossBlocks: number },
) {
  const stageRuns = all.length * (stagesOf(teacher.analysed) + 1);
  const scoring = WORK.forward * spanCount + WORK.loss * lossBlocks;
  const learning = scoring + WORK.backward * spanCount;
  let total =
    stageRuns + learning * training.flat().length * settings.passCount + (SCORES + 1) * scoring * heldOut.length;
  let done = 0;
  const add = (units: number, detail: string): void => {
    done = Math.min(total, done + units);
    onProgress?.(done, total, detail);
  };
  return {
    stage: () => add(1, 'dense model'),
    run: add,
    repeat(stepCount: number) {
      total += stepCount * (training[0]?.length ?? 0) * learning + scoring * heldOut.length;
    },
  };
}

/**
 * Runs the first stages of a model; with `stagesOf` all up to the last hidden state. @returns the runner, to be disposed of by the
 * caller.
 */
async function runStages(runner: BlockRunner, stageCount: number, onBatch: () => void): Promise<BlockRunner> {
  try {
    for (let stage = 1; stage < stageCount; stage += 1) await runner.pass({ onBatch });
    await runner.advance({ onBatch });
    return runner;
  } catch (error) {
    await runner.dispose();
    throw error;
  }
}

/** Number of stages up to the last hidden state. */
const stagesOf = ({ detected }: AnalysedModel): number => detected.partition.cuts.length;
