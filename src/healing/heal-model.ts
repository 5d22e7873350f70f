import { blockSpans } from '../architecture/layout.js';
import { OptionError, UnsupportedModelError } from '../errors.js';
import { encodeFloats } from '../onnx/float-encoding.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import type { TensorShape } from '../onnx/tensor-handle.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { type Batch, indexRunGraph, makeBatches, type SideValues } from '../runtime/block-runner.js';
import type { Engine } from '../runtime/engine.js';
import type { TensorStore } from '../runtime/tensor-store.js';
import { learningRateOf } from './adam.js';
import { createLossHead } from './loss-head.js';
import { runStages, stagesOf } from './run-stages.js';
import { createStudent } from './student.js';
import { type Training, train } from './train.js';
import { findTrainedWeights, type TrainedName } from './trained-weights.js';
import {
  type CurvePoint,
  createTrainingStores,
  fillStores,
  getList,
  type SavedTraining,
  unpackTraining,
} from './training-state.js';
import { groupWeights, sliceOf, type WeightGroups } from './weight-groups.js';

export type { TrainedName } from './trained-weights.js';
export type { CurvePoint, SavedTraining, TrainingFacts } from './training-state.js';

/** How a model is healed. */
export interface HealingSettings {
  readonly trained: TrainedName;
  /** Windows of one step of the optimiser, at least 1. */
  readonly windowsPerStep: number;
  /** Times that the windows are gone through, at least 1. */
  readonly passCount: number;
  /** The highest rate of the schedule. Absent: by the size of the model, see `learningRateOf`. */
  readonly learningRate: number | undefined;
}

/** A model and what was found out about it. */
export interface UnderstoodModel {
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
}

export interface HealingRequest {
  readonly engine: Engine;
  /** The dense model. */
  readonly teacher: UnderstoodModel;
  /** The pruned one, which stays as it is. */
  readonly student: UnderstoodModel;
  /** Token windows of equal length to learn on, at least one. */
  readonly windows: readonly Int32Array[];
  /** Others of that length, which tell whether it helped; at least one. */
  readonly heldOut: readonly Int32Array[];
  readonly settings: HealingSettings;
  /** Makes a place for so many bytes. */
  createStore(byteLength: number): TensorStore | Promise<TensorStore>;
  /** Keeps healed weights until the model is saved. */
  readonly store: (shape: TensorShape, bytes: Uint8Array<ArrayBuffer>) => TensorHandle | Promise<TensorHandle>;
  /** Hears of parts of the whole: `done` of `total`. */
  readonly onProgress?: ((done: number, total: number, detail: string) => void) | undefined;
  /** What an earlier run with the same request left. */
  readonly from?: SavedTraining | undefined;
  /** See `Training.onStep`. */
  readonly onStep?: Training['onStep'];
  readonly signal?: AbortSignal | undefined;
}

/** What healing did, as plain data. */
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
  /** Times that the rate was halved, since the loss had left the road. */
  readonly halvings: number;
  /** KL(dense || pruned) in nats a token on the held-out windows, before and after. */
  readonly divergence: { readonly before: number; readonly after: number };
  /** Steps after which the weights are those that were kept; 0: nothing was better than the pruned model as it was. */
  readonly keptStep: number;
  readonly curve: readonly CurvePoint[];
}

export interface Healed {
  /** Weights that healing changed, in the file's data type; none where nothing was better. */
  readonly changed: ReadonlyMap<string, TensorHandle>;
  readonly report: HealingReport;
}

/** Tokens that run through a block together. */
const TOKENS_PER_BATCH = 1024;

/** How often the held-out windows are scored on the way. */
const SCORES = 4;

/**
 * Trains the blocks of a pruned model to predict what the dense one predicts: KL(dense || pruned) at every position, AdamW on
 * float32 weights. Weights, moments and hidden states wait in stores, so that the memory needed follows one block.
 *
 * @throws OptionError where there are no windows; UnsupportedModelError where the models do not belong together, or an operator
 *   has no gradient; NumericalError when it diverges.
 * @see Minitron (arXiv 2407.14679), section 3; self-data distillation (arXiv 2410.09982)
 */
export async function healModel(request: HealingRequest): Promise<Healed> {
  const { engine, teacher, student, windows, heldOut, settings, signal } = request;
  checkKinship(teacher.analysed, student.analysed);
  if (windows.length === 0 || heldOut.length === 0)
    throw new OptionError(
      `healing has ${windows.length} windows to learn on and ${heldOut.length} to check itself on; give at least one of each`,
    );
  const batching = planBatches(request);
  const spans = blockSpans(student.analysed.detected.layout);
  const index = indexRunGraph(student.model);
  const trained = findTrainedWeights({ ...student, index, spans, trained: settings.trained });
  if (trained.length === 0)
    throw new UnsupportedModelError(
      'no weight of the blocks can be trained; healing needs float weights in linear maps',
    );
  const groups = groupWeights(trained, spans.length);
  const tick = startProgress(request, batching, spans.length);
  const endings: (() => Promise<unknown>)[] = [];
  const own = <T extends { dispose(): Promise<unknown> }>(made: T): T => {
    endings.unshift(() => made.dispose());
    return made;
  };
  const createStore = async (byteLength: number) => own(await request.createStore(byteLength));
  try {
    const { training: steps, heldOut: checks, all, perStep, stateBytes } = batching;
    const run = async ({ model, analysed }: UnderstoodModel, batches: readonly Batch[], stageCount: number) => {
      const states = await request.createStore(batches.length * stateBytes);
      return own(
        await runStages({ engine, model, analysed, batches, states, stageCount, signal, onBatch: tick.stage }),
      );
    };
    const targets = await run(teacher, all, stagesOf(teacher.analysed));
    const inputs = await run(student, all, 1);
    const carried = await run(student, oneOfEachSize(all), stagesOf(student.analysed));
    const side = joinSides(inputs.side, carried.side);
    const stores = own(await createTrainingStores(groups, request.createStore));
    const weightBytes = groups.all.reduce((sum, { count }) => sum + count, 0) * Float32Array.BYTES_PER_ELEMENT;
    const pupil = createStudent({ engine, ...student, index, spans, groups, side });
    endings.unshift(() => pupil.release());
    const head = await createLossHead({
      engine,
      teacher: { ...teacher, side: targets.side },
      student: { ...student, side },
    });
    endings.unshift(() => head.release());
    const learningRate = settings.learningRate ?? learningRateOf(teacher.analysed.detected.layout.parameterCount);
    const { passCount } = settings;
    if (request.from === undefined) await fillStores(groups, stores);
    else await unpackTraining(request.from, groups, stores);
    const facts = await train(
      {
        student: pupil,
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
        onRun: tick.run,
        onStep: request.onStep,
        signal,
      },
      request.from?.facts,
    );
    const changed = facts.best.step === 0 ? new Map() : await takeWeights(request, groups, stores.best.weights);
    return {
      changed,
      report: {
        windowCount: windows.length,
        heldOutCount: heldOut.length,
        windowLength: windows[0]!.length,
        trained: settings.trained,
        windowsPerStep: settings.windowsPerStep,
        passCount,
        trainedCount: trained.reduce((sum, { count }) => sum + count, 0),
        learningRate,
        halvings: facts.halvings,
        divergence: { before: facts.curve[0]!.heldOut!, after: facts.best.heldOut },
        keptStep: facts.best.step,
        curve: facts.curve,
      },
    };
  } finally {
    for (const end of endings) await end();
  }
}

/**
 * Checks that a pruned model may come from a dense one.
 * @throws UnsupportedModelError naming what differs in more than widths.
 */
export function checkKinship(
  { detected: { layout: dense } }: AnalysedModel,
  { detected: { layout: pruned } }: AnalysedModel,
) {
  for (const size of ['blockCount', 'hiddenSize', 'vocabularySize'] as const)
    if (dense[size] !== pruned[size])
      throw new UnsupportedModelError(
        `the pruned model has a ${size} of ${pruned[size]}, the dense one of ${dense[size]}; give the model that it was pruned from`,
      );
  for (const module of pruned.modules) {
    const { block, kind, unitCount } = module;
    const origin = dense.modules.find((other) => other.block === block && other.kind === kind);
    if (origin === undefined || origin.unitCount < unitCount)
      throw new UnsupportedModelError(
        `block ${block} ${kind} of the pruned model has ${unitCount} units, that of the dense one ${origin?.unitCount ?? 'none'}; give the model that it was pruned from`,
      );
  }
}

interface Batching {
  /** Batches of every step. */
  readonly training: readonly (readonly Batch[])[];
  readonly heldOut: readonly Batch[];
  readonly all: readonly Batch[];
  /** Batches of a whole step. */
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

/** What is carried beside the hidden states depends on the size of a batch, and rarely on its tokens. */
const oneOfEachSize = (batches: readonly Batch[]): Batch[] =>
  batches.filter(({ batchSize }, at) => batches.findIndex((other) => other.batchSize === batchSize) === at);

/** Values of a first look at all batches, and of a second at some of them, which went further. */
function joinSides(first: SideValues, second: SideValues): Pick<SideValues, 'has' | 'get'> {
  return {
    has: (name) => first.has(name) || second.has(name),
    get: (name, batch) => (first.has(name) ? first : second).get(name, batch),
  };
}

/** Counts what runs, a block over a batch forwards as 1. */
function startProgress({ onProgress, teacher, settings }: HealingRequest, batching: Batching, spanCount: number) {
  const { training, heldOut, all } = batching;
  const stageRuns = all.length * (stagesOf(teacher.analysed) + 1);
  const stepUnits = 4 * spanCount * training.flat().length * settings.passCount;
  const total = stageRuns + stepUnits + (SCORES + 1) * spanCount * heldOut.length;
  let done = 0;
  const add = (units: number, detail: string): void => {
    done = Math.min(total, done + units);
    onProgress?.(done, total, detail);
  };
  return { stage: () => add(1, 'dense model'), run: add };
}

async function takeWeights(
  { store }: HealingRequest,
  { all }: WeightGroups,
  weights: TensorStore,
): Promise<Map<string, TensorHandle>> {
  const changed = new Map<string, TensorHandle>();
  for (const [at, group] of all.entries()) {
    const values = await getList(weights, at);
    for (const weight of group.weights) {
      const { dataType, dims } = weight.handle;
      changed.set(weight.name, await store({ dataType, dims }, encodeFloats(dataType, sliceOf(values, weight))));
    }
  }
  return changed;
}
