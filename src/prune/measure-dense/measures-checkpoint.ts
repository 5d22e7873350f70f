import { readCheckpoint } from '../../runtime/journal.js';
import type { ContextPlace, PruneContext } from '../prune-context.js';
import { findMissing, readCurvatures, writeCurvatures } from './curvature-checkpoints.js';
import type { DenseMeasures, DenseNeeds } from './dense-measures.js';
import { byIndex, byModule, type IndexedMap } from './indexed-map.js';
import { runMeasurements } from './run-measurements.js';

const NAME = 'dense';

/** The journal's entry; curvatures are entries of their own. */
interface SavedMeasures extends Omit<DenseMeasures, 'functional' | 'orders'>, ContextPlace {
  /** By module index, as are the orders. */
  readonly functional: IndexedMap<DenseMeasures['functional']>;
  readonly orders: IndexedMap<NonNullable<DenseMeasures['orders']>> | undefined;
  readonly remarks: readonly string[];
}

/** Measures the dense model, or reads an earlier run's measurements from the journal. */
export async function measureOrRead(context: PruneContext, needs: DenseNeeds): Promise<DenseMeasures> {
  const { journal } = context.job;
  const saved = await readCheckpoint<SavedMeasures>(journal, NAME);
  const findUnsaved = async () => (journal && needs.curvatures ? findMissing(journal, needs.modules) : []);
  if (saved !== undefined && (await findUnsaved()).length === 0) return unpack(context, needs, saved);
  const measured = await runMeasurements(context, needs);
  const { hiddenSize } = context.job.analysed.detected.layout;
  const missing = await findUnsaved();
  if (journal?.shouldCheckpoint(missing.length * hiddenSize ** 2 * Float32Array.BYTES_PER_ELEMENT, true)) {
    await writeCurvatures(journal, missing, needs.curvatures!, true);
    await journal.write(NAME, [pack(context, measured)], true);
  }
  return measured;
}

function pack(context: PruneContext, { functional, orders, ...measured }: DenseMeasures): SavedMeasures {
  return {
    ...measured,
    ...context.place(),
    functional: byIndex(functional),
    orders: orders && byIndex(orders),
    remarks: [...context.remarks],
  };
}

async function unpack(
  context: PruneContext,
  { modules, curvatures }: DenseNeeds,
  { functional, orders, remarks, drawn, ticks, ...measured }: SavedMeasures,
): Promise<DenseMeasures> {
  if (curvatures !== undefined) await readCurvatures(context.job.journal!, modules, curvatures);
  context.restore({ drawn, ticks, remarks });
  return {
    ...measured,
    functional: byModule(modules, functional),
    ...(orders && { orders: byModule(modules, orders) }),
  };
}
