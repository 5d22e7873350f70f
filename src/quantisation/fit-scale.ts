import { type BlockGrid, type BlockScale, codecOf, scaleOfRange, storedScale } from './block-codes.js';

/** Fractions of a block's range that are tried: clipping a few large weights makes the steps of all others finer. */
const CLIP_RATIOS = [0.94, 0.88, 0.82, 0.75, 0.67] as const;

/** Numbers of one block, and the cost of an error in each. */
export interface WeighedBlock {
  readonly values: Float64Array;
  /** At least 0, one for each value. */
  readonly costs: Float64Array;
}

/**
 * The scale with the least rounding cost of a block, `sum of cost (value - rounded)^2`: ranges shrunk step by step, the best of
 * them moved to where its codes fit best.
 * @param known Another scale to try: numbers that were rounded once, and changed little, lie near its levels.
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
    // What lies on its levels stays there: another scale would fit better by what float32 loses alone.
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

/** Cost of a block that lies on its levels at most, as a fraction of what losing all of it would cost. */
const ON_LEVELS = 1e-12;

const sizeOf = ({ values, costs }: WeighedBlock): number =>
  values.reduce((sum, value, at) => sum + costs[at]! * value * value, 0);

/** @param limit Costs from there on need not be known exactly. */
function costOf(grid: BlockGrid, { values, costs }: WeighedBlock, scaled: BlockScale, limit: number): number {
  if (grid.levels !== undefined) return costOfLevels(grid, { values, costs }, scaled);
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

/** Values between two checks whether a cost is too high already. */
const CHECK_INTERVAL = 8;

function costOfLevels(
  grid: Pick<BlockGrid, 'bits' | 'levels'>,
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

/** The scale that fits the codes of another best, by least squares. */
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
