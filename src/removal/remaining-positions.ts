import { type AxisLabel, groupOf } from '../operators/axis-rule.js';

/** Which units and KV groups remain. A group remains as long as one of its units does. */
export interface RemainingUnits {
  readonly units: ReadonlySet<number>;
  readonly groups: ReadonlySet<number>;
}

/** @param keep Unit indices that remain. */
export function remainingUnits(keep: Int32Array, groupOfUnit: Int32Array | undefined): RemainingUnits {
  return { units: new Set(keep), groups: new Set(Array.from(keep, (unit) => groupOfUnit?.[unit] ?? unit)) };
}

/** Positions of a labelled axis that remain, ascending. */
export function remainingPositions({ unitIds }: AxisLabel, { units, groups }: RemainingUnits): Int32Array {
  const positions: number[] = [];
  unitIds.forEach((code, at) => {
    const group = groupOf(code);
    if (group !== undefined ? groups.has(group) : code < 0 || units.has(code)) positions.push(at);
  });
  return Int32Array.from(positions);
}
