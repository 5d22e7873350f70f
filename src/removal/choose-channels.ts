import { OptionError } from '../errors.js';
import { sum } from '../linalg/sum.js';

/** Units of one function group, or of an entire module, with their importance. */
export interface ScoredGroup {
  /** Unit indices in the module. */
  readonly units: ArrayLike<number>;
  /** Importance of each of `units`, in the same order; larger is kept. */
  readonly scores: ArrayLike<number>;
}

export interface ChoiceInput {
  readonly unitCount: number;
  /** Function groups; units in none of them (the shared group) remain. */
  readonly groups: readonly ScoredGroup[];
  /** Units to remove from the module. */
  readonly removeCount: number;
  /** Each group keeps at least this many. Default 0. */
  readonly minimumPerGroup?: number;
}

/** Units by index, both ascending; together all units of the module. */
export interface Choice {
  readonly keep: Int32Array;
  readonly remove: Int32Array;
  /** Units removed from each group. */
  readonly removedPerGroup: readonly number[];
  /** Units that should be removed but exceed the groups' limits; the caller removes them from other modules. */
  readonly overflow: number;
}

/**
 * Chooses the units to remove from a module: the lowest scores of each function group, the same fraction of every group.
 * Of equal scores, the lower index is removed first.
 *
 * @throws OptionError when a count is not an integer of at least 0, or a unit is listed twice or does not exist.
 * @see FANG Eq. 7
 */
export function chooseChannels(input: ChoiceInput): Choice {
  const { unitCount, groups, removeCount, minimumPerGroup = 0 } = input;
  checkGroups(input);
  const sizes = groups.map(({ units }) => units.length);
  const { counts, overflow } = shareRemovals(sizes, removeCount, minimumPerGroup);
  const isRemoved = new Uint8Array(unitCount);
  groups.forEach((group, index) => {
    for (const unit of lowest(group, counts[index]!)) isRemoved[unit] = 1;
  });
  return { ...splitUnits(isRemoved), removedPerGroup: counts, overflow };
}

/**
 * Distributes removed units over groups in proportion to their sizes, by largest remainder; of equal remainders the
 * earlier group loses the unit. Units that a group at its minimum cannot lose are removed from the others.
 *
 * @param minimumPerGroup Units each group keeps.
 * @returns Removed units per group, and the number of units above all groups' limits.
 * @see FANG Eq. 7: each function group loses `s F / (F - m)` of its neurons
 */
export function shareRemovals(
  sizes: readonly number[],
  removeCount: number,
  minimumPerGroup = 0,
): { readonly counts: readonly number[]; readonly overflow: number } {
  checkCount('removeCount', removeCount);
  checkCount('minimumPerGroup', minimumPerGroup);
  const limits = sizes.map((size) => Math.max(0, size - minimumPerGroup));
  const total = sum(sizes);
  const target = Math.min(removeCount, sum(limits));
  const shares = sizes.map((size) => (total === 0 ? 0 : (target * size) / total));
  const counts = shares.map((share, index) => Math.min(Math.floor(share), limits[index]!));
  const byRemainder = shares
    .map((share, index) => ({ index, remainder: share - Math.floor(share) }))
    .sort((a, b) => b.remainder - a.remainder || a.index - b.index);
  let missing = target - sum(counts);
  // Mostly one round; more only where small groups reached their limit.
  while (missing > 0) {
    for (const { index } of byRemainder) {
      if (missing > 0 && counts[index]! < limits[index]!) {
        counts[index]!++;
        missing--;
      }
    }
  }
  return { counts, overflow: removeCount - target };
}

/** The `count` units of lowest score. */
function lowest({ units, scores }: ScoredGroup, count: number): number[] {
  const order = Array.from({ length: units.length }, (_, position) => position);
  order.sort((a, b) => scores[a]! - scores[b]! || units[a]! - units[b]!);
  return order.slice(0, count).map((position) => units[position]!);
}

function splitUnits(isRemoved: Uint8Array): Pick<Choice, 'keep' | 'remove'> {
  const keep: number[] = [];
  const remove: number[] = [];
  isRemoved.forEach((mark, unit) => {
    (mark === 1 ? remove : keep).push(unit);
  });
  return { keep: Int32Array.from(keep), remove: Int32Array.from(remove) };
}

function checkGroups({ unitCount, groups }: ChoiceInput): void {
  const seen = new Uint8Array(unitCount);
  groups.forEach(({ units, scores }, index) => {
    if (units.length !== scores.length) {
      throw new OptionError(`group ${index} has ${units.length} units and ${scores.length} scores; one score per unit`);
    }
    for (let position = 0; position < units.length; position++) {
      const unit = units[position]!;
      if (!Number.isInteger(unit) || unit < 0 || unit >= unitCount) {
        throw new OptionError(`group ${index} lists unit ${unit}; units are 0..${unitCount - 1}`);
      }
      if (seen[unit] === 1) throw new OptionError(`unit ${unit} is listed twice; groups must not overlap`);
      if (Number.isNaN(scores[position])) throw new OptionError(`the score of unit ${unit} is NaN`);
      seen[unit] = 1;
    }
  });
}

function checkCount(name: string, count: number): void {
  if (!Number.isInteger(count) || count < 0) {
    throw new OptionError(`${name} is ${count}; expected an integer of at least 0`);
  }
}
