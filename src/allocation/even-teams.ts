import type { AttentionType } from '../architecture/layout.js';
import type { ModuleMeasures } from './allocation.js';

/** One whose keys and values are shared keeps them, and loses query heads of its own. */
const TYPES: readonly AttentionType[] = ['full', 'linear'];

/**
 * Attention modules that must lose equally many heads, those of each type together: runtimes read one head count of each type for
 * all blocks.
 */
export function evenTeams(modules: readonly ModuleMeasures[]): (readonly ModuleMeasures[])[] {
  const teams = TYPES.map((type) =>
    modules.filter(({ kind, attentionType = 'full' }) => kind === 'attention' && attentionType === type),
  );
  return teams.filter(({ length }) => length > 0);
}

/** The same without modules whose sparsity the options fixed. */
export const freeTeams = (modules: readonly ModuleMeasures[]): (readonly ModuleMeasures[])[] =>
  evenTeams(modules.filter(({ fixed }) => fixed === undefined));
