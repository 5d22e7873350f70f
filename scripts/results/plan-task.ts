import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { METHODS, type MethodName } from '../../src/compensation/methods.js';
import { fractionOf } from '../../src/options/kinds.js';
import { learnsRounding, resolveQuantisation } from '../../src/options/quantisation.js';
import type { CalibrationOptions } from '../../src/options.js';
import type { Experiment } from './experiments.js';
import type { Ladder } from './ladders.js';
import type { Measurement, Measurements, Rung, Task } from './measurement.js';

/** What all experiments of a run share. */
export interface Setup extends Pick<Task, 'model' | 'keep' | 'texts' | 'textWindows' | 'tasks' | 'taskLimit'> {
  /** Text that calibration windows are cut from, and how many. */
  readonly calibration: string;
  readonly windowCount: number;
  /** Folder of the pruned models and of the windows that the model writes. */
  readonly scratch: string;
}

/** What of a ladder is still to be measured; undefined where all is known. */
export function planTask(ladder: Ladder, setup: Setup, kept: Measurements): Task | undefined {
  const { keep, texts, textWindows, tasks, taskLimit, scratch } = setup;
  const [{ reference }] = ladder;
  const model = reference === undefined ? setup.model : referenceFolder(reference, setup);
  const rungs = ladder.map((experiment): Rung => {
    const { id, options } = experiment;
    const entry = kept[id]?.options === stateOptions(experiment, setup) ? kept[id] : undefined;
    return { id, sparsity: options && fractionOf(options.sparsity), known: entry?.measurement };
  });
  const open = rungs.filter(({ known }) => !isComplete(known, setup));
  if (open.length === 0) return undefined;
  const { sparsity, ...options }: Partial<NonNullable<Experiment['options']>> = ladder[0].options ?? {};
  return {
    model,
    keep,
    texts,
    textWindows,
    tasks,
    taskLimit,
    rungs: open,
    out: join(scratch, nameLadder(options, setup)),
    ...(sparsity !== undefined && {
      options: { ...options, ...windowsOf(options, setup) },
    }),
  };
}

/** Folder for the models of ONNX Runtime's tools. */
export const referenceFolder = (reference: string, { scratch }: Pick<Setup, 'scratch'>): string =>
  join(scratch, `onnxruntime-${reference}`);

/** The options that a measurement is valid for. */
export function stateOptions({ options, reference }: Experiment, { windowCount }: Setup): string {
  return JSON.stringify({ ...options, reference, windows: windowCount });
}

function isComplete(known: Measurement | undefined, { texts, tasks, taskLimit }: Setup): boolean {
  return (
    Object.keys(texts).every((text) => known?.perplexities[text]) &&
    Object.keys(tasks).every((task) => known?.tasks?.[task]?.limit === taskLimit)
  );
}

/** A folder's name that no other ladder, and no other model, has. */
function nameLadder(options: Partial<NonNullable<Experiment['options']>>, { model, windowCount }: Setup): string {
  const hash = createHash('sha256').update(JSON.stringify([options, model, windowCount]));
  return `${options.method ?? 'dense'}-${hash.digest('hex').slice(0, 12)}`;
}

/** Methods that read no token take no calibration. */
function windowsOf(
  { method, calibration, dtype, rounding }: Partial<NonNullable<Experiment['options']>>,
  setup: Setup,
) {
  const rounds = dtype !== undefined && learnsRounding(resolveQuantisation({ dtype, ...(rounding && { rounding }) }));
  const looks = METHODS[method as MethodName]?.needs !== 'none' || rounds;
  return looks ? { calibration: calibrationOf(calibration, setup) } : {};
}

/** One text for all; where the model writes a part of the windows, the same ones each time. */
function calibrationOf(own: CalibrationOptions = {}, { calibration, windowCount, scratch }: Setup): CalibrationOptions {
  const { generate } = own;
  const isGenerated = generate !== undefined && generate !== false;
  return {
    source: { file: calibration },
    windowCount,
    windowLength: 512,
    ...own,
    ...(isGenerated && { generate: { ...Object(generate), file: join(scratch, 'windows.jsonl') } }),
  };
}
