import ndarray from 'ndarray';
import type { ImportanceProblem } from '../../src/compensation/adapter.js';
import { multiplyTransposed } from '../../src/linalg/multiply-transposed.js';
import { createRandom, drawNormal } from '../../src/linalg/random.js';

export interface ProblemShape {
  readonly outputCount?: number;
  readonly unitCount?: number;
  readonly unitSize?: number;
  readonly tokenCount?: number;
  readonly seed?: number;
}

/** A random linear layer, tokens that correlate and have a mean, and the statistics of them. */
export function randomProblem(shape: ProblemShape = {}): ImportanceProblem & { readonly tokens: Float64Array } {
  const { outputCount = 5, unitCount = 12, unitSize = 1, tokenCount = 60, seed = 1 } = shape;
  const random = createRandom(seed);
  const channelCount = unitCount * unitSize;
  const tokens = new Float64Array(tokenCount * channelCount);
  for (let token = 0; token < tokenCount; token++) {
    const common = drawNormal(random);
    for (let j = 0; j < channelCount; j++) {
      tokens[token * channelCount + j] =
        (1 + j / channelCount) * (0.7 * common + 0.5 * drawNormal(random)) + (j % 5) / 4;
    }
  }
  const weight = Float32Array.from({ length: outputCount * channelCount }, () => drawNormal(random));
  return {
    tokens,
    weight: ndarray(weight, [outputCount, channelCount]),
    statistics: statisticsOf(tokens, tokenCount),
    unitOfChannel: Int32Array.from({ length: channelCount }, (_, j) => Math.floor(j / unitSize)),
    unitCount,
    random: createRandom(seed + 1),
  };
}

/** Unweighted statistics of tokens `[tokenCount, channelCount]`. */
export function statisticsOf(tokens: Float64Array, tokenCount: number): ImportanceProblem['statistics'] {
  const channelCount = tokens.length / tokenCount;
  const columns = Float64Array.from({ length: tokens.length }, (_, at) => {
    return tokens[(at % tokenCount) * channelCount + Math.floor(at / tokenCount)]!;
  });
  const shape = { rows: channelCount, columns: channelCount, inner: tokenCount };
  const gram = multiplyTransposed(columns, columns, shape).map((value) => value / tokenCount);
  const mean = Float64Array.from({ length: channelCount }, (_, j) => {
    return columns.subarray(j * tokenCount, (j + 1) * tokenCount).reduce((sum, value) => sum + value, 0) / tokenCount;
  });
  const variance = mean.map((mu, j) => Math.max(0, gram[j * channelCount + j]! - mu * mu));
  return { tokenCount, mean, variance, gram };
}
