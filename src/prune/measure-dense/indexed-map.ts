import type { PrunableModule } from '../../architecture/layout.js';

/** Results by module index, as a journal stores them: module objects differ between runs. */
export type IndexedMap<Found> =
  Found extends ReadonlyMap<PrunableModule, infer Value> ? ReadonlyMap<number, Value> : never;

export const byIndex = <Value>(found: ReadonlyMap<PrunableModule, Value>): ReadonlyMap<number, Value> =>
  new Map([...found].map(([{ index }, value]) => [index, value]));

/** In the order of the modules. */
export const byModule = <Value>(
  modules: readonly PrunableModule[],
  found: ReadonlyMap<number, Value>,
): ReadonlyMap<PrunableModule, Value> =>
  new Map(modules.filter(({ index }) => found.has(index)).map((module) => [module, found.get(module.index)!]));
