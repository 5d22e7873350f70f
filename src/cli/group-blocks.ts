/** A run of blocks that look alike: one row of a table. */
export interface BlockRun<T> {
  /** `3`, or `0-5`. */
  readonly name: string;
  readonly look: T;
}

/**
 * Joins neighbouring blocks that look alike, so that a table of a deep model stays readable.
 * @param looks What each block looks like, in order of `blocks`; compared as JSON.
 */
export function groupBlocks<T>(blocks: readonly number[], looks: readonly T[]): BlockRun<T>[] {
  const runs: { first: number; last: number; look: T }[] = [];
  for (const [at, block] of blocks.entries()) {
    const look = looks[at]!;
    const previous = runs.at(-1);
    const continues = previous?.last === block - 1 && JSON.stringify(previous.look) === JSON.stringify(look);
    if (previous && continues) previous.last = block;
    else runs.push({ first: block, last: block, look });
  }
  return runs.map(({ first, last, look }) => ({ name: first === last ? `${first}` : `${first}-${last}`, look }));
}
