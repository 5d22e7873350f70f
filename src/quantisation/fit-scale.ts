import { type BlockGrid, type BlockScale, codecOf, scaleOfRange, storedScale } from './block-codes.js';

/** Fractions of a block's range to try: clipping a few large weights gives all others finer steps. */
const CLIP_RATIOS = [0.94, 0.88, 0.82, 0.75, 0.67] as const;

/** Numbers of one block, and the cost of an error in each. */
export interface WeighedBlock {
  readonly values: Float64Array;
  /** At least 0, one per value. */
  readonly costs: Float64Array;
}

/**
 * Finds a scale with a small rounding cost of a block, `sum of cost (value - rounded)^2`: tries shrunk ranges, then fits the
 * best scale to its codes.
 * @param known Another scale to try: weights that were rounded by it before, and changed little, are near its levels.
 */
export function fitScale(grid: BlockGrid, block: WeighedBlock, known?: BlockScale): BlockScale {
  const { values } = block;
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  let best = scaleOfRange(grid, low, high);
  if (!Number.isFinite(best.scale)) return best;
  let least = costOf(grid, block, best, Infinity);
  if (known !== undefined) {
    const cost = costOf(grid, block, known, least);
    // Weights on its levels keep it: another scale would be better only by rounding errors of float32.
    if (cost < ON_LEVELS * sizeOf(block)) return known;
    if (cost < least) [best, least] = [known, cost];
  }
  for (let at = 0; at <= CLIP_RATIOS.length; at += 1) {
    const shrink = CLIP_RATIOS[at];
    const candidate = shrink === undefined ? refit(grid, block, best) : scaleOfRange(grid, low * shrink, high * shrink);
    const cost = costOf(grid, block, candidate, least);
    if (cost >= least) continue;
    best = candidate;
    least = cost;
  }
  return best;
}

/** Largest cost of a block on its levels, as a fraction of the cost of rounding it to zeros. */
const ON_LEVELS = 1e-12;

const sizeOf = ({ values, costs }: WeighedBlock): number =>
  values.reduce((sum, value, at) => sum + costs[at]! * value * value, 0);

/** @param limit Costs above it need not be exact. */
function costOf(grid: BlockGrid, { values, costs }: WeighedBlock, scaled: BlockScale, limit: number): number {
  if (grid.codebook !== undefined) return costOfLevels(grid, { values, costs }, scaled);
  const { scale, zeroPoint } = scaled;
  const [lowest, highest] = [-zeroPoint, (1 << grid.bits) - 1 - zeroPoint];
  const inverse = 1 / scale;
  let sum = 0;
  for (let start = 0; start < values.length && sum < limit; start += CHECK_INTERVAL) {
    const end = Math.min(values.length, start + CHECK_INTERVAL);
    for (let at = start; at < end; at += 1) {
      const value = values[at]!;
      const level = Math.floor(value * inverse + 0.5);
      const error = value - (level < lowest ? lowest : Math.min(level, highest)) * scale;
      sum += costs[at]! * error * error;
    }
  }
  return sum;
}

/** Values between two comparisons of a cost with the limit. */
const CHECK_INTERVAL = 8;

function costOfLevels(
  grid: Pick<BlockGrid, 'bits' | 'codebook'>,
  { values, costs }: WeighedBlock,
  scaled: BlockScale,
): number {
  const { codeOf, levelOf } = codecOf(grid);
  const { scale, zeroPoint } = scaled;
  let sum = 0;
  for (let at = 0; at < values.length; at += 1) {
    const error = values[at]! - levelOf(codeOf(values[at]!, scaled), zeroPoint) * scale;
    sum += costs[at]! * error * error;
  }
  return sum;
}

/** Fits the scale to its codes, by least squares. */
function refit(grid: BlockGrid, { values, costs }: WeighedBlock, scaled: BlockScale): BlockScale {
  const { codeOf, levelOf } = codecOf(grid);
  const { zeroPoint } = scaled;
  let product = 0;
  let square = 0;
  for (let at = 0; at < values.length; at += 1) {
    const level = levelOf(codeOf(values[at]!, scaled), zeroPoint);
    product += costs[at]! * level * values[at]!;
    square += costs[at]! * level * level;
  }
  return square > 0 && product !== 0 ? { scale: storedScale(product / square, grid.scaleType), zeroPoint } : scaled;
}
