import type { BackwardPlace } from '../../activations/backpropagate.js';
import type { PrunableModule } from '../../architecture/layout.js';
import { countTokens } from '../../runtime/block-runner.js';
import type { Tensor } from '../../runtime/engine.js';
import { type Journal, readCheckpoint } from '../../runtime/journal.js';
import type { TensorStore } from '../../runtime/tensor-store.js';
import type { ContextPlace, PruneContext } from '../prune-context.js';
import { findMissing, readCurvatures, writeCurvatures } from './curvature-checkpoints.js';
import type { ForwardMeasures } from './dense-measures.js';
import type { BackwardPass, DensePasses } from './dense-passes.js';
import { byIndex, byModule, type IndexedMap } from './indexed-map.js';

const NAME = 'backwards';

/** The first part of the entry; the cotangents of each batch follow. */
interface SavedBackwards extends BackwardPlace, ContextPlace {
  /** Results of the forward pass, modules by their index. */
  readonly forwards: Omit<ForwardMeasures, 'contexts' | 'orders'> & {
    readonly contexts: IndexedMap<ForwardMeasures['contexts']>;
    readonly orders: IndexedMap<ForwardMeasures['orders']>;
  };
  /** Results by key of the measurement. */
  readonly found: ReadonlyMap<number | string, object>;
  readonly remarks: readonly string[];
}

/** State of a backward pass that may be interrupted. */
export interface Backwards extends Pick<DensePasses, 'needs' | 'spans'> {
  readonly backwardPass: BackwardPass;
  readonly forwards: ForwardMeasures;
  /** Results of the backward pass so far, by keys that are the same in every run. */
  readonly found: ReadonlyMap<number | string, object>;
  readonly cotangents: TensorStore;
}

/** Checkpoints of a backward pass. */
interface BackwardCheckpoint {
  /** Where to resume; undefined for the loss. */
  readonly start: BackwardPlace | undefined;
  /** Called between two blocks; saves a checkpoint from time to time. */
  saveIfNeeded(place: BackwardPlace): Promise<void>;
}

/** Opens checkpoints, and restores measures and cotangents from the last one. Without a journal there are none. */
export async function openBackwardCheckpoint(context: PruneContext, given: Backwards): Promise<BackwardCheckpoint> {
  const { journal } = context.job;
  const { curvatures } = given.needs;
  const start = journal && (await restore(context, journal, given));
  return {
    start,
    async saveIfNeeded(place) {
      if (journal === undefined) return;
      const missing = curvatures ? await findMissing(journal, passedModules(given, place)) : [];
      if (!journal.shouldCheckpoint(byteLength(context, given, missing.length))) return;
      await writeCurvatures(journal, missing, curvatures!, false);
      await journal.write(NAME, parts(context, given, place));
    },
  };
}

/** Position of an interrupted backward pass, and the results of its forward pass, which later blocks need not repeat. */
export interface InterruptedBackward extends Pick<Backwards, 'forwards'> {
  readonly left: number;
}

/** Undefined if there is no checkpoint, or an entry of it is missing. */
export async function findInterruptedBackward(
  { job: { journal } }: PruneContext,
  passes: Pick<DensePasses, 'needs' | 'spans' | 'backwardPass'>,
): Promise<InterruptedBackward | undefined> {
  const saved = await readInterrupted(journal, passes);
  if (saved === undefined) return undefined;
  const { contexts, orders, blockChange } = saved.forwards;
  const { modules } = passes.needs;
  return {
    left: saved.left,
    forwards: { blockChange, contexts: byModule(modules, contexts), orders: byModule(modules, orders) },
  };
}

async function* parts(
  context: PruneContext,
  { forwards: { blockChange, contexts, orders }, found, backwardPass, cotangents }: Backwards,
  place: BackwardPlace,
): AsyncGenerator<unknown> {
  yield {
    ...place,
    ...context.place(),
    forwards: { blockChange, contexts: byIndex(contexts), orders: byIndex(orders) },
    found,
    remarks: [...context.remarks],
  } satisfies SavedBackwards;
  for (const entry of entriesOf(backwardPass, place)) yield await cotangents.get(entry);
}

async function readInterrupted(
  journal: Journal | undefined,
  passes: Pick<DensePasses, 'needs' | 'spans' | 'backwardPass'>,
): Promise<SavedBackwards | undefined> {
  const saved = await readCheckpoint<SavedBackwards>(journal, NAME);
  if (saved === undefined || !passes.needs.curvatures) return saved;
  return (await findMissing(journal!, passedModules(passes, saved))).length > 0 ? undefined : saved;
}

async function restore(context: PruneContext, journal: Journal, given: Backwards): Promise<BackwardPlace | undefined> {
  const { found, cotangents, needs } = given;
  const saved = await readInterrupted(journal, given);
  if (saved === undefined) return undefined;
  context.restore(saved);
  for (const [key, measures] of found) Object.assign(measures, saved.found.get(key));
  if (needs.curvatures) await readCurvatures(journal, passedModules(given, saved), needs.curvatures);
  const entries = entriesOf(given.backwardPass, saved);
  let part = -1;
  for await (const tensor of (await journal.read(NAME))!) {
    if (part >= 0) await cotangents.put(entries[part]!, tensor as Tensor);
    part += 1;
  }
  return { left: saved.left, loss: saved.loss, carriedEntries: saved.carriedEntries };
}

/** Entries of the cotangents' store, in the order in which they are saved. */
const entriesOf = ({ batches }: BackwardPass, { carriedEntries }: BackwardPlace): readonly number[] => [
  ...batches.keys(),
  ...carriedEntries,
];

/** Modules with gradients that the backward pass has finished. */
function passedModules(
  { backwardPass, spans }: Pick<DensePasses, 'spans' | 'backwardPass'>,
  { left }: Pick<BackwardPlace, 'left'>,
): readonly PrunableModule[] {
  const first = spans[left]?.first ?? Number.POSITIVE_INFINITY;
  return (backwardPass?.modules ?? []).filter(({ segment }) => segment >= first);
}

function byteLength({ job }: PruneContext, { backwardPass }: Backwards, matrixCount: number): number {
  const { hiddenSize } = job.analysed.detected.layout;
  const tokens = countTokens(backwardPass.batches);
  return Float32Array.BYTES_PER_ELEMENT * (tokens * hiddenSize + matrixCount * hiddenSize ** 2);
}
