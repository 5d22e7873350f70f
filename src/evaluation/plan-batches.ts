import type { Bundle } from './bundle.js';

/** Limits of one run of a model. */
export interface BatchLimits {
  /** Whether the common prefix of a bundle can be cached. */
  readonly hasCache: boolean;
  /** Whether a batch can continue from its caches by more than one token. */
  readonly continuesTogether: boolean;
  /** Tokens of a run, padding included, at least 1; logits of all of them are in memory at once. */
  readonly tokenCount: number;
  /** Tokens whose keys and values are copied for one run, at least 1. */
  readonly cachedTokenCount: number;
  /** Sequences of a run, at least 1. */
  readonly rowCount: number;
}

/** Bundles that are read together: first the common prefix of each, then the rest in passes. */
export interface PlannedBatch {
  /** Indices of the bundles. */
  readonly members: readonly number[];
  /** Tokens of the common prefix, equal for all members; 0 without caching. */
  readonly prefixLength: number;
  /** Each pass is one run; its rows are padded at their ends to the longest. */
  readonly passes: readonly (readonly PlannedRow[])[];
}

/** One sequence of a pass. */
export interface PlannedRow {
  /** Position of the bundle in `members`, and of the sequence in the bundle. */
  readonly member: number;
  readonly sequence: number;
  /** Tokens to read after the prefix: all but the last, from which nothing is predicted. */
  readonly length: number;
}

/** Fixed cost of a run, in tokens: it reads all weights once. */
const RUN_COST = 24;

/** Largest number of bundles in a batch, since results are returned per batch. */
const MEMBER_LIMIT = 16;

/**
 * Plans how bundles are read with few tokens of padding, few tokens read twice, and few runs. The plan depends only on
 * the bundles' shapes and the limits, so that it is reproducible.
 */
export function planBatches(bundles: readonly Bundle[], limits: BatchLimits): PlannedBatch[] {
  const shaped = bundles
    .map((bundle, index) => ({ bundle, index, prefix: limits.hasCache ? sharedLength(bundle) : 0 }))
    .sort((a, b) => a.prefix - b.prefix || a.index - b.index);
  return partition(shaped, (part) => prefixCost(part, limits)).map((part) => {
    const prefixLength = part[0]!.prefix;
    const rows = part.flatMap(({ bundle }, member) =>
      bundle.map(({ tokens }, sequence) => ({ member, sequence, length: tokens.length - 1 - prefixLength })),
    );
    rows.sort((a, b) => a.length - b.length || a.member - b.member || a.sequence - b.sequence);
    return {
      members: part.map(({ index }) => index),
      prefixLength,
      passes: partition(rows, (pass) => passCost(pass, prefixLength, limits)),
    };
  });
}

interface ShapedBundle {
  readonly bundle: Bundle;
  readonly prefix: number;
}

/**
 * Tokens to read of a part's prefixes: all are cut to the shortest, and the remainders are read once per sequence.
 * @param part Sorted by prefix.
 */
function prefixCost(part: readonly ShapedBundle[], limits: BatchLimits): number {
  const shortest = part[0]!.prefix;
  let tokens = part.length * shortest;
  let rowCount = 0;
  for (const { bundle, prefix } of part) {
    tokens += bundle.length * (prefix - shortest);
    rowCount += bundle.length;
  }
  const fits =
    part.length <= Math.min(MEMBER_LIMIT, limits.rowCount) &&
    part.length * shortest <= limits.tokenCount &&
    rowCount * shortest <= limits.cachedTokenCount;
  return fits || part.length === 1 ? tokens + RUN_COST : Number.POSITIVE_INFINITY;
}

/** Tokens of a pass, padding included. @param pass Sorted by length. */
function passCost(pass: readonly PlannedRow[], prefixLength: number, limits: BatchLimits): number {
  const rowCount = prefixLength > 0 && !limits.continuesTogether ? 1 : limits.rowCount;
  const tokens = pass.length * pass.at(-1)!.length;
  const fits =
    pass.length <= rowCount && tokens <= limits.tokenCount && pass.length * prefixLength <= limits.cachedTokenCount;
  return fits || pass.length === 1 ? tokens + RUN_COST : Number.POSITIVE_INFINITY;
}

/** Length of the common prefix that can be cached, without the token that predicts the first scored one. */
function sharedLength(bundle: Bundle): number {
  const [first, ...others] = bundle;
  if (first === undefined) return 0;
  let length = Math.min(...bundle.map(({ firstScored }) => firstScored - 1));
  for (const { tokens } of others) {
    let common = 0;
    while (common < length && tokens[common] === first.tokens[common]) common++;
    length = common;
  }
  return length;
}

/**
 * Cuts a list into consecutive parts of the least total cost.
 * @param costOf Infinity for a part that is too large; any part that contains it must be Infinity too.
 */
function partition<T>(items: readonly T[], costOf: (part: readonly T[]) => number): T[][] {
  const best = [{ cost: 0, start: 0 }];
  for (let end = 1; end <= items.length; end++) {
    let found = { cost: Number.POSITIVE_INFINITY, start: end - 1 };
    for (let start = end - 1; start >= 0; start--) {
      const part = costOf(items.slice(start, end));
      if (part === Number.POSITIVE_INFINITY) break;
      const cost = best[start]!.cost + part;
      if (cost < found.cost) found = { cost, start };
    }
    best.push(found);
  }
  const parts: T[][] = [];
  for (let end = items.length; end > 0; end = best[end]!.start) parts.unshift(items.slice(best[end]!.start, end));
  return parts;
}
