import type { BlockGrid } from '../../quantisation/block-codes.js';
import type { QuantisableWeight } from '../../quantisation/find-weights.js';
import { codesByteLength } from '../../quantisation/store-codes.js';

/** A map that was rounded to few bits, and what the loss feels of that. */
export interface RoundedMap {
  readonly weight: Pick<QuantisableWeight, 'name' | 'outCount' | 'inCount'> & { readonly grid: BlockGrid };
  /** Estimate in nats a token, up to a factor that all maps share; at least 0. */
  readonly cost: number;
}

/** Eight bits in the place of fewer; errors are too small there for zero points or tables to matter. */
export const wideGrid = ({ blockSize, scaleType }: BlockGrid): BlockGrid => ({
  bits: 8,
  blockSize,
  hasZeroPoints: false,
  scaleType,
});

/**
 * Chooses the maps that get eight bits: those whose rounding costs most for the bytes that they would take more, as many as there is
 * room for.
 * @param share Bytes that all of them may take more, as a fraction of what the maps take now; at least 0.
 * @returns Names of their weights.
 */
export function chooseWide(maps: readonly RoundedMap[], share: number): ReadonlySet<string> {
  const bytesIn = (grid: BlockGrid, { weight: { outCount, inCount } }: RoundedMap) =>
    codesByteLength(grid, outCount, inCount);
  const priced = maps.map((map) => {
    const now = bytesIn(map.weight.grid, map);
    return { map, now, more: bytesIn(wideGrid(map.weight.grid), map) - now };
  });
  let room = share * priced.reduce((sum, { now }) => sum + now, 0);
  const wide = new Set<string>();
  for (const { map, more } of priced.sort((a, b) => b.map.cost / b.more - a.map.cost / a.more)) {
    if (more > room) continue;
    wide.add(map.weight.name);
    room -= more;
  }
  return wide;
}
