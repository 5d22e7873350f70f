export interface TypicalTokensInput {
  /** `[tokenCount, dimensionCount]` row-major, as the tokens were clustered. */
  readonly points: Float64Array;
  readonly dimensionCount: number;
  /** `[contextCount, dimensionCount]` row-major. */
  readonly centers: Float64Array;
  readonly contextOfToken: Int32Array;
  /** Tokens wanted of each context. */
  readonly count: number;
}

/**
 * Finds the tokens nearest to the centre of each context, for showing what a context is about.
 * @returns Token indices by context, nearest first (of equally near ones the earlier); fewer where a context is small.
 */
export function findTypicalTokens(input: TypicalTokensInput): Int32Array[] {
  const { points, dimensionCount, centers, contextOfToken, count } = input;
  const contextCount = centers.length / dimensionCount;
  const members = Array.from({ length: contextCount }, () => [] as number[]);
  contextOfToken.forEach((context, token) => {
    members[context]!.push(token);
  });
  return members.map((tokens, context) => {
    const distances = new Map(
      tokens.map((token) => {
        let distance = 0;
        for (let i = 0; i < dimensionCount; i++)
          distance += (points[token * dimensionCount + i]! - centers[context * dimensionCount + i]!) ** 2;
        return [token, distance];
      }),
    );
    tokens.sort((one, other) => distances.get(one)! - distances.get(other)! || one - other);
    return Int32Array.from(tokens.slice(0, count));
  });
}
