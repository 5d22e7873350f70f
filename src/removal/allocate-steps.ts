import type { PrunableModule } from '../architecture/layout.js';
import { OptionError } from '../errors.js';

/** Steps each module loses, by module index. */
export type StepCounts = ReadonlyMap<number, number>;

/**
 * Makes attention modules lose equally many heads: runtimes that read one head count for all blocks need that.
 * @param counts Steps per attention module, in module order.
 * @returns The count that is nearest to their mean.
 */
export function evenCount(counts: readonly number[]): number {
  return counts.length === 0 ? 0 : Math.round(counts.reduce((sum, count) => sum + count, 0) / counts.length);
}

/** @throws OptionError when attention modules of equal shape would end with different head counts. */
export function checkEvenHeads(modules: readonly PrunableModule[], counts: StepCounts): void {
  const attention = modules.filter(({ kind }) => kind === 'attention');
  const left = new Set(attention.map(({ index, unitCount }) => `${unitCount}-${counts.get(index) ?? 0}`));
  if (left.size > 1) {
    throw new OptionError(
      'skipBlocks or blockSparsity leave different numbers of heads in different blocks, which older runtimes cannot open; ' +
        "set perBlockKvHeads, or prune modules: 'ffn' only",
    );
  }
}
