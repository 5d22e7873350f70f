import type { BackwardPlace } from '../../activations/walk-backwards.js';
import type { PrunableModule } from '../../architecture/layout.js';
import { type Journal, readKept } from '../../platform/journal.js';
import type { Tensor } from '../../runtime/engine.js';
import type { TensorStore } from '../../runtime/tensor-store.js';
import type { ContextPlace, PruneContext } from '../prune-context.js';
import type { BackwardMeasures } from './dense-measures.js';
import type { BackwardPass, DensePasses } from './dense-passes.js';
import { findMissing, readCurvatures, writeCurvatures } from './kept-curvatures.js';

const NAME = 'backwards';

/** The first part of the entry; the cotangents of each batch follow. */
interface KeptBackwards extends BackwardPlace, ContextPlace {
  /** By module index. */
  readonly found: ReadonlyMap<number, BackwardMeasures>;
  /** Those of the way back. */
  readonly remarks: readonly string[];
}

interface Backwards extends Pick<DensePasses, 'needs' | 'spans'> {
  readonly backwardPass: BackwardPass;
  readonly found: ReadonlyMap<PrunableModule, BackwardMeasures>;
  readonly cotangents: TensorStore;
}

/** Keeps how far the gradients have come. */
interface KeptWalk {
  /** Where to go on; undefined for the loss. */
  readonly start: BackwardPlace | undefined;
  /** Is called between two blocks: writes down where the walk stands, when that is due. */
  settle(place: BackwardPlace): Promise<void>;
}

/** Without a journal nothing is kept; else measures and cotangents are those of where an earlier walk was cut off. */
export async function openKeptBackwards(context: PruneContext, given: Backwards): Promise<KeptWalk> {
  const { journal } = context.job;
  const { curvatures } = given.needs;
  const firstRemark = context.remarks.length;
  const start = journal && (await restore(context, journal, given));
  return {
    start,
    async settle(place) {
      if (journal === undefined) return;
      const missing = curvatures ? await findMissing(journal, passedModules(given, place)) : [];
      if (!journal.isDue(byteLength(context, given, missing.length))) return;
      await writeCurvatures(journal, missing, curvatures!, false);
      await journal.write(NAME, parts(context, given, { place, firstRemark }));
    },
  };
}

async function* parts(
  context: PruneContext,
  { found, backwardPass, cotangents }: Backwards,
  { place, firstRemark }: { readonly place: BackwardPlace; readonly firstRemark: number },
): AsyncGenerator<unknown> {
  yield {
    ...place,
    ...context.passed(),
    found: new Map([...found].map(([{ index }, measures]) => [index, measures])),
    remarks: context.remarks.slice(firstRemark),
  } satisfies KeptBackwards;
  for (const batch of backwardPass.batches.keys()) yield await cotangents.get(batch);
}

/** @returns undefined where nothing was kept, or something is lost of what belongs to it. */
async function restore(context: PruneContext, journal: Journal, given: Backwards): Promise<BackwardPlace | undefined> {
  const { found, cotangents, needs } = given;
  const kept = await readKept<KeptBackwards>(journal, NAME);
  if (kept === undefined) return undefined;
  const passed = needs.curvatures ? passedModules(given, kept) : [];
  if ((await findMissing(journal, passed)).length > 0) return undefined;
  context.goOn(kept);
  for (const [{ index }, measures] of found) Object.assign(measures, kept.found.get(index));
  if (needs.curvatures) await readCurvatures(journal, passed, needs.curvatures);
  let batch = -1;
  for await (const part of (await journal.read(NAME))!) {
    if (batch >= 0) await cotangents.put(batch, part as Tensor);
    batch += 1;
  }
  return { left: kept.left, loss: kept.loss };
}

/** Modules whose blocks the walk has left behind. */
function passedModules({ needs, spans }: Backwards, { left }: BackwardPlace): readonly PrunableModule[] {
  const first = spans[left]?.first ?? Number.POSITIVE_INFINITY;
  return needs.modules.filter(({ segment }) => segment >= first);
}

function byteLength({ job }: PruneContext, { backwardPass }: Backwards, matrixCount: number): number {
  const { hiddenSize } = job.analysed.detected.layout;
  const tokens = backwardPass.batches.reduce((sum, batch) => sum + batch.tokens.length, 0);
  return Float32Array.BYTES_PER_ELEMENT * (tokens * hiddenSize + matrixCount * hiddenSize ** 2);
}
