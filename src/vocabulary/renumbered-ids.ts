/** Token ids before and after others went; their order remains. */
export interface RenumberedIds {
  /** Old ids that remain, ascending: the new id is the place. */
  readonly keep: Int32Array;
  /** New id of an old one; `undefined` where it went. */
  newId(old: number): number | undefined;
  /** How many ids below an old one remain: the new id of one that remains, and the new size of a table of so many rows. */
  countBelow(old: number): number;
}

/** @param keep old ids that remain, ascending */
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
