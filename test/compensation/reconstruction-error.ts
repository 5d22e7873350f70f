import type { Compensated, ImportanceProblem } from '../../src/compensation/adapter.js';

/** Mean over tokens of `||W h - (W' h_keep + b)||^2`, straight from the tokens. */
export function reconstructionError(
  problem: ImportanceProblem & { readonly tokens: Float64Array },
  keep: Int32Array,
  { weight, bias }: Compensated,
): number {
  const { tokens, weight: whole } = problem;
  const channelCount = problem.unitOfChannel.length;
  const tokenCount = tokens.length / channelCount;
  let sum = 0;
  for (let token = 0; token < tokenCount; token++) {
    for (let row = 0; row < whole.shape[0]!; row++) {
      let error = -(bias?.[row] ?? 0);
      for (let j = 0; j < channelCount; j++) error += whole.get(row, j) * tokens[token * channelCount + j]!;
      keep.forEach((j, position) => {
        error -= (weight?.[row * keep.length + position] ?? whole.get(row, j)) * tokens[token * channelCount + j]!;
      });
      sum += error * error;
    }
  }
  return sum / tokenCount;
}
