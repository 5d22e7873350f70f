import type { NodeProto } from 'onnx-buf';
import { errorMessage } from '../error-message.js';
import { UnsupportedModelError } from '../errors.js';
import { learningRateOf } from '../healing/adam.js';
import { type Healed, healModel, remarkHealing } from '../healing/heal-model.js';
import { checkpointTraining } from '../healing/training-checkpoint.js';
import { setWeight } from '../onnx/edit-weights.js';
import { isFloatType } from '../onnx/float-encoding.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { dataInputs } from '../onnx/partition.js';
import { gradientOf, operatorOf } from '../operators/table.js';
import { type AnalysedModel, analyseModel, type UnderstoodModel } from '../runtime/analyse-model.js';
import { indexRunGraph } from '../runtime/block-runner.js';
import type { PruneJob } from './job.js';
import type { Refinement } from './refinement.js';
import { splitHeldOut } from './split-held-out.js';

const NOTHING_REMOVED = 'nothing was removed, so the float model was not healed';

/** Trains the pruned model on the predictions of the dense one. @see healModel */
export const healing: Refinement = {
  name: 'healing',
  // Healing reports progress as a stage of its own.
  passes: () => 0,
  async run(context, model, { modules }) {
    const { job } = context;
    if (job.options.heal === undefined) return new Map();
    if (modules.length === 0) {
      context.remarks.push(NOTHING_REMOVED);
      return new Map();
    }
    const { changed, report } = await context.timed('heal', () => heal(job, { dense: job, model }));
    context.findings.healing = report;
    context.remarks.push(...remarkHealing(report));
    for (const [name, handle] of changed) setWeight(model, name, handle);
    return changed;
  },
};

/**
 * Refuses, before any token runs, a model whose blocks cannot be trained.
 * @throws UnsupportedModelError naming the node or value in the way.
 */
export function refuseHealing({ model, analysed }: UnderstoodModel): void {
  const index = indexRunGraph(model);
  try {
    refuseOperators(index.nodes, analysed);
  } catch (error) {
    if (!(error instanceof UnsupportedModelError)) throw error;
    throw new UnsupportedModelError(`${errorMessage(error)}; healing needs it. Prune without healing`, {
      cause: error,
    });
  }
}

/** A model to train, and the model whose predictions it learns. */
export interface Healing {
  /** The dense model, unless the job has one for healing. */
  readonly dense: UnderstoodModel;
  readonly model: OnnxModel;
  /** Factor of the learning rate. Default 1. */
  readonly rateFactor?: number;
  /** Checkpoints of the training; absent: those of the job. */
  readonly checkpoints?: Awaited<ReturnType<typeof checkpointsOf>>;
}

/** Checkpoints of a job's training. */
export const checkpointsOf = ({ journal }: Pick<PruneJob, 'journal'>) => checkpointTraining(journal?.within('healing'));

/** Trains a model on the windows of a job. */
export async function heal(job: PruneJob, { dense, model, rateFactor = 1, checkpoints }: Healing): Promise<Healed> {
  const { engine, options, store, createStore } = job;
  const { windows, heldOut, stop, teacher = dense } = job.healing ?? splitHeldOut(job.windows);
  const { layout } = teacher.analysed.detected;
  const windowBytes = (windows[0]?.length ?? 1) * layout.hiddenSize * Float32Array.BYTES_PER_ELEMENT;
  const { onProgress, signal } = options;
  const settings = options.heal!;
  onProgress?.({ stage: 'heal', done: 0, total: 1 });
  return healModel({
    ...(checkpoints ?? (await checkpointsOf(job))),
    engine,
    teacher: { model: teacher.model, analysed: teacher.analysed },
    student: { model, analysed: await analyseModel(model, engine, signal) },
    windows,
    heldOut,
    settings: {
      ...settings,
      learningRate: rateFactor * (settings.learningRate ?? learningRateOf(layout.parameterCount)),
    },
    stop,
    // As for several blocks, so that large stores are files.
    createStore: (byteLength) => createStore(Math.ceil(byteLength / windowBytes / 2), 2),
    store,
    onProgress: onProgress && ((done, total, detail) => onProgress({ stage: 'heal', done, total, detail })),
    signal,
  });
}

/** @throws UnsupportedModelError naming the first node of the blocks without a gradient. */
function refuseOperators(nodes: readonly NodeProto[], { detected, facts }: AnalysedModel): void {
  const influenced = new Set(detected.partition.cuts);
  for (const node of nodes) {
    if (operatorOf(node)?.gradient === 'zero' || !dataInputs(node).some((value) => influenced.has(value))) continue;
    const floats = node.output.filter((value) => isFloatType(facts.first.get(value)?.dataType ?? 0));
    if (floats.length > 0) gradientOf(node);
    for (const value of floats) influenced.add(value);
  }
}
