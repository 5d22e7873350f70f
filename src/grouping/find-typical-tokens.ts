export interface TypicalTokensInput {
  /** `[tokenCount, dimensionCount]` row-major, as the tokens were clustered. */
  readonly points: Float64Array;
  readonly dimensionCount: number;
  /** `[contextCount, dimensionCount]` row-major. */
  readonly centers: Float64Array;
  readonly contextOfToken: Int32Array;
  /** Tokens wanted of each context. Default 64: enough that a few different ones are among them. */
  readonly count?: number;
}

/**
 * Finds the tokens nearest to the centre of each context, as examples of the context.
 * @returns Token indices by context, nearest first (of equally near ones the earlier); fewer where a context is small.
 */
export function findTypicalTokens(input: TypicalTokensInput): Int32Array[] {
  const { points, dimensionCount, centers, contextOfToken, count = 64 } = input;
  const contextCount = centers.length / dimensionCount;
  const members = Array.from({ length: contextCount }, () => [] as number[]);
  const distances = new Float64Array(contextOfToken.length);
  for (let token = 0, at = 0; token < contextOfToken.length; token++) {
    const context = contextOfToken[token]!;
    members[context]!.push(token);
    let sum = 0;
    for (let i = context * dimensionCount; i < (context + 1) * dimensionCount; i++, at++)
      sum += (points[at]! - centers[i]!) ** 2;
    distances[token] = sum;
  }
  return members.map((tokens) => {
    // Sorting a typed array is much faster than sorting all tokens.
    const farthest = Float64Array.from(tokens, (token) => distances[token]!).sort()[count - 1] ?? Infinity;
    const near = tokens.filter((token) => distances[token]! <= farthest);
    near.sort((one, other) => distances[one]! - distances[other]! || one - other);
    return Int32Array.from(near.slice(0, count));
  });
}
