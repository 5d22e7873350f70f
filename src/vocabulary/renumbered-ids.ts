/** Token ids before and after trimming; their order remains. */
export interface RenumberedIds {
  /** Remaining old ids, ascending; the index is the new id. */
  readonly keep: Int32Array;
  /** New id of an old one; `undefined` if it was removed. */
  newId(old: number): number | undefined;
  /** Number of remaining ids below an old one: the new id if it remains, or the new size of a table with `old` rows. */
  countBelow(old: number): number;
}

/** @param keep remaining old ids, ascending */
export function renumberIds(keep: Int32Array): RenumberedIds {
  const countBelow = (old: number): number => {
    let [low, high] = [0, keep.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (keep[middle]! < old) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return {
    keep,
    countBelow,
    newId(old) {
      const place = countBelow(old);
      return keep[place] === old ? place : undefined;
    },
  };
}
