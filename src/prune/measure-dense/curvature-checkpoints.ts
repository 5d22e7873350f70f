import type { PrunableModule } from '../../architecture/layout.js';
import type { Tensor } from '../../runtime/engine.js';
import { type Journal, readCheckpoint } from '../../runtime/journal.js';
import type { TensorStore } from '../../runtime/tensor-store.js';

const nameOf = ({ index }: PrunableModule): string => `curvature-${index}`;

/** Modules whose curvature is not saved yet. */
export async function findMissing(
  journal: Journal,
  modules: readonly PrunableModule[],
): Promise<readonly PrunableModule[]> {
  const missing: PrunableModule[] = [];
  for (const module of modules) if (!(await journal.has(nameOf(module)))) missing.push(module);
  return missing;
}

/** Writes an entry for each curvature, since each is computed once and never changes. */
export async function writeCurvatures(
  journal: Journal,
  modules: readonly PrunableModule[],
  curvatures: Pick<TensorStore, 'get'>,
  endsStage: boolean,
): Promise<void> {
  for (const module of modules) await journal.write(nameOf(module), [await curvatures.get(module.index)], endsStage);
}

export async function readCurvatures(
  journal: Journal,
  modules: readonly PrunableModule[],
  curvatures: Pick<TensorStore, 'put'>,
): Promise<void> {
  for (const module of modules)
    await curvatures.put(module.index, (await readCheckpoint<Tensor>(journal, nameOf(module)))!);
}
