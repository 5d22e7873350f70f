import type { PrunableModule } from '../../architecture/layout.js';
import { type Journal, readKept } from '../../platform/journal.js';
import type { Tensor } from '../../runtime/engine.js';
import type { ContextPlace, PruneContext } from '../prune-context.js';
import type { DenseMeasures, DenseNeeds } from './dense-measures.js';
import { runMeasurements } from './run-measurements.js';

const NAME = 'dense';

/** The first part of the entry; the metric's curvature at each module's output follows, where it was measured. */
interface KeptMeasures extends Omit<DenseMeasures, 'functional' | 'orders'>, ContextPlace {
  /** By module index, as are the orders. */
  readonly functional: IndexedMap<DenseMeasures['functional']>;
  readonly orders: IndexedMap<NonNullable<DenseMeasures['orders']>> | undefined;
  readonly remarks: readonly string[];
}

type IndexedMap<Found> = Found extends ReadonlyMap<PrunableModule, infer Value> ? ReadonlyMap<number, Value> : never;

/** What one look at the dense model teaches: from the journal where an earlier run kept it. */
export async function measureOrRead(context: PruneContext, needs: DenseNeeds): Promise<DenseMeasures> {
  const { journal } = context.job;
  const kept = await readKept<KeptMeasures>(journal, NAME);
  if (kept !== undefined) return unpack(context, needs, kept);
  const measured = await runMeasurements(context, needs);
  const { hiddenSize } = context.job.analysed.detected.layout;
  const byteLength = needs.curvatures ? needs.modules.length * hiddenSize ** 2 * Float32Array.BYTES_PER_ELEMENT : 0;
  if (journal?.isDue(byteLength)) await journal.write(NAME, pack(context, needs, measured));
  return measured;
}

async function* pack(
  context: PruneContext,
  { modules, curvatures }: DenseNeeds,
  { functional, orders, ...measured }: DenseMeasures,
): AsyncGenerator<unknown> {
  const indexed = <Value>(found: ReadonlyMap<PrunableModule, Value>) =>
    new Map([...found].map(([{ index }, value]) => [index, value]));
  yield {
    ...measured,
    ...context.passed(),
    functional: indexed(functional),
    orders: orders && indexed(orders),
    remarks: [...context.remarks],
  } satisfies KeptMeasures;
  if (curvatures === undefined) return;
  for (const { index } of modules) {
    const { type, dims, data } = await curvatures.get(index);
    yield { type, dims, data: data.slice() };
  }
}

async function unpack(
  context: PruneContext,
  { modules, curvatures }: DenseNeeds,
  { functional, orders, remarks, drawn, ticks, ...measured }: KeptMeasures,
): Promise<DenseMeasures> {
  const named = <Value>(found: ReadonlyMap<number, Value>) =>
    new Map(modules.filter(({ index }) => found.has(index)).map((module) => [module, found.get(module.index)!]));
  if (curvatures !== undefined) await readCurvatures(context.job.journal!, { modules, curvatures });
  context.goOn({ drawn, ticks, remarks });
  return { ...measured, functional: named(functional), ...(orders && { orders: named(orders) }) };
}

async function readCurvatures(
  journal: Journal,
  { modules, curvatures }: Required<Pick<DenseNeeds, 'modules' | 'curvatures'>>,
): Promise<void> {
  let at = -1;
  for await (const part of (await journal.read(NAME)) ?? []) {
    if (at >= 0) await curvatures?.put(modules[at]!.index, part as Tensor);
    at += 1;
  }
}
