import type { AttentionType } from '../architecture/layout.js';
import type { ModuleMeasures } from './allocation.js';

/** Attention with shared keys and values loses only its own query heads. */
const TYPES: readonly AttentionType[] = ['full', 'linear'];

interface Heads<Module> {
  readonly modules: readonly Module[];
  readonly evenHeads: boolean;
}

/**
 * Attention modules that must lose the same number of heads: those that share keys and values, or with `evenHeads` all
 * of each type, since runtimes read one head count of each type for all blocks.
 */
export function evenHeadGroups<Module extends ModuleMeasures>({
  modules,
  evenHeads,
}: Heads<Module>): (readonly Module[])[] {
  const attention = modules.filter(({ kind }) => kind === 'attention');
  const sources = new Set(attention.map(({ keyValueSource }) => keyValueSource));
  sources.delete(undefined);
  const groups = evenHeads
    ? TYPES.map((type) => attention.filter(({ attentionType = 'full' }) => attentionType === type))
    : [...sources].map((source) => attention.filter(({ keyValueSource }) => keyValueSource === source));
  return groups.filter(({ length }) => length > 0);
}

/** Groups of the modules whose sparsity is not fixed by options. */
export const freeHeadGroups = <Module extends ModuleMeasures>({
  modules,
  evenHeads,
}: Heads<Module>): (readonly Module[])[] =>
  evenHeadGroups({ evenHeads, modules: modules.filter(({ fixed }) => fixed === undefined) });
