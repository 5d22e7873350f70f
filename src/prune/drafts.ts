import type { Allocation } from '../allocation/allocation.js';
import { analyseModel, type UnderstoodModel } from '../runtime/analyse-model.js';
import type { StepCounts } from './allocate-modules.js';
import type { PruneJob } from './job.js';
import type { MeasuredModel } from './measure-dense/measure-dense.js';
import { startContext } from './prune-context.js';
import { shrinkBlocks } from './shrink-blocks.js';

/** Most tokens that drafts are pruned on, and compared on: enough to rank them. */
const MAX_TOKENS = { drafts: 8192, compared: 4096 };

/** Fraction of the windows that drafts are compared on. */
const HELD_OUT = 1 / 4;

/** Windows for pruning drafts and for comparing them. */
export interface DraftWindows {
  readonly drafted: readonly Int32Array[];
  /** The last ones; if there is only one window, it is in both lists. */
  readonly compared: readonly Int32Array[];
}

/** Splits calibration windows of one length into those for pruning drafts and those for comparing them. */
export function splitDraftWindows(windows: readonly Int32Array[]): DraftWindows {
  const [{ length: windowLength } = { length: 1 }] = windows;
  const most = (tokens: number) => Math.max(1, Math.floor(tokens / windowLength));
  const heldOut = Math.max(1, Math.min(most(MAX_TOKENS.compared), Math.round(windows.length * HELD_OUT)));
  const drafted = Math.max(1, Math.min(most(MAX_TOKENS.drafts), windows.length - heldOut));
  return { drafted: windows.slice(0, drafted), compared: windows.slice(-heldOut) };
}

interface DraftSettings {
  readonly allocation: Allocation;
  readonly windows: readonly Int32Array[];
  /** Called with the fraction of a stage that is done. */
  readonly onProgress: (fraction: number) => void;
}

/** The job of a draft: a run on some of the windows, without input repair and checkpoints. */
export function draftJob(job: PruneJob, { allocation, windows, onProgress }: DraftSettings): PruneJob {
  const options = {
    ...job.options,
    allocation,
    inputSteps: 0,
    onProgress: ({ done, total }: { readonly done: number; readonly total: number }) => onProgress(done / total),
  };
  return { ...job, windows, options, journal: undefined };
}

/** Prunes a draft by the measurements of the dense model, without refinements. */
export async function pruneDraft(
  job: PruneJob,
  { modules, dense, curvatures }: Pick<MeasuredModel, 'modules' | 'dense' | 'curvatures'>,
  counts: StepCounts,
): Promise<UnderstoodModel> {
  const context = startContext(job);
  try {
    const { model } = await shrinkBlocks(context, { modules, dense, curvatures, counts, refinements: [] });
    return { model, analysed: await analyseModel(model, job.engine, job.options.signal) };
  } finally {
    await context.dispose();
  }
}
