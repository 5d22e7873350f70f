/** Means and variances of some tokens. */
export interface WeightedMoments {
  readonly tokenCount: number;
  readonly mean: Float64Array;
  readonly variance: Float64Array;
}

/** Binary tree of parts whose sums are joined in pairs. */
export type SumTree<Leaf> = (Leaf | SumBranch<Leaf>) & { readonly tokenCount: number };

/** Two parts with about equal numbers of leaves. */
export interface SumBranch<Leaf> {
  readonly tokenCount: number;
  readonly halves: readonly [SumTree<Leaf>, SumTree<Leaf>];
}

/** Joins leaves in pairs. @param leaves at least one, in their order */
export function buildTree<Leaf extends { readonly tokenCount: number }>(leaves: readonly Leaf[]): SumTree<Leaf> {
  const [only] = leaves;
  if (leaves.length === 1) return only!;
  const middle = Math.ceil(leaves.length / 2);
  const halves = [buildTree(leaves.slice(0, middle)), buildTree(leaves.slice(middle))] as const;
  return { tokenCount: halves[0].tokenCount + halves[1].tokenCount, halves };
}

const isBranch = <Leaf>(tree: SumTree<Leaf>): tree is SumBranch<Leaf> & SumTree<Leaf> => 'halves' in tree;

/** Reads the leaves of a tree, and joins them up to the root. */
export async function foldTree<Leaf, Value extends { readonly tokenCount: number }>(
  tree: SumTree<Leaf>,
  { read, join }: { read(leaf: Leaf): Promise<Value>; join(one: Value, other: Value): Value },
): Promise<Value> {
  if (!isBranch(tree)) return read(tree);
  const [one, other] = tree.halves;
  // Sequentially, since parts may be as large as a Gram matrix.
  const first = await foldTree(one, { read, join });
  return join(first, await foldTree(other, { read, join }));
}

/** Values that are means over tokens. */
export interface WeightedMeans {
  readonly tokenCount: number;
  readonly values: Float64Array;
}

/** Means over the tokens of both. */
export function joinMeans(one: WeightedMeans, other: WeightedMeans): WeightedMeans {
  const tokenCount = one.tokenCount + other.tokenCount;
  const share = other.tokenCount / tokenCount;
  return { tokenCount, values: one.values.map((value, at) => value + share * (other.values[at]! - value)) };
}

/** Moments of the tokens of both. @see Chan, Golub & LeVeque 1983 */
export function joinMoments(one: WeightedMoments, other: WeightedMoments): WeightedMoments {
  const { tokenCount, values: mean } = joinMeans(meansOf(one), meansOf(other));
  const [share, rest] = [other.tokenCount / tokenCount, one.tokenCount / tokenCount];
  const variance = one.variance.map((value, at) => {
    const distance = other.mean[at]! - one.mean[at]!;
    return rest * value + share * other.variance[at]! + rest * share * distance ** 2;
  });
  return { tokenCount, mean, variance };
}

const meansOf = ({ tokenCount, mean }: WeightedMoments): WeightedMeans => ({ tokenCount, values: mean });

/** Part of the lower triangle of a covariance, row by row, from entry `start` on. */
export interface CovariancePart {
  readonly tokenCount: number;
  /** Of all channels. */
  readonly mean: Float64Array;
  readonly start: number;
  readonly values: Float64Array;
}

/** Covariance of the tokens of both. */
export function joinCovariances(one: CovariancePart, other: CovariancePart): CovariancePart {
  const { tokenCount, values: mean } = joinMeans(
    { tokenCount: one.tokenCount, values: one.mean },
    { tokenCount: other.tokenCount, values: other.mean },
  );
  const [share, rest] = [other.tokenCount / tokenCount, one.tokenCount / tokenCount];
  const distance = one.mean.map((value, at) => other.mean[at]! - value);
  const values = new Float64Array(one.values.length);
  let { row, column } = placeOf(one.start);
  for (let at = 0; at < values.length; at++) {
    values[at] = rest * one.values[at]! + share * other.values[at]! + rest * share * distance[row]! * distance[column]!;
    column += 1;
    if (column > row) {
      row += 1;
      column = 0;
    }
  }
  return { tokenCount, mean, start: one.start, values };
}

/** Row and column of an entry of a lower triangle. */
function placeOf(entry: number): { row: number; column: number } {
  let row = Math.floor((Math.sqrt(8 * entry + 1) - 1) / 2);
  // The root may round to the next row.
  while ((row * (row + 1)) / 2 > entry) row -= 1;
  while (((row + 1) * (row + 2)) / 2 <= entry) row += 1;
  return { row, column: entry - (row * (row + 1)) / 2 };
}
