/** A run of neighbouring blocks with equal values: one row of a table. */
export interface BlockRun<T> {
  /** `3`, or `0-5`. */
  readonly name: string;
  readonly value: T;
}

/**
 * Joins neighbouring blocks with equal values, so that a table of a deep model remains readable.
 * @param values Value of each block, in the order of `blocks`; compared as JSON.
 */
export function groupBlocks<T>(blocks: readonly number[], values: readonly T[]): BlockRun<T>[] {
  const runs: { first: number; last: number; value: T }[] = [];
  for (const [at, block] of blocks.entries()) {
    const value = values[at]!;
    const previous = runs.at(-1);
    const continues = previous?.last === block - 1 && JSON.stringify(previous.value) === JSON.stringify(value);
    if (previous && continues) previous.last = block;
    else runs.push({ first: block, last: block, value });
  }
  return runs.map(({ first, last, value }) => ({ name: first === last ? `${first}` : `${first}-${last}`, value }));
}
