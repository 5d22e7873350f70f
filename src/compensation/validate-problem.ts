import { NumericalError, OptionError } from '../errors.js';
import { findNonFinite } from '../linalg/matrix-block.js';
import type { ImportanceProblem, StatisticsNeed } from './adapter.js';

/**
 * Rejects an invalid problem: shapes that disagree, missing statistics, NaN or infinite numbers.
 *
 * @throws OptionError for shapes and missing statistics; NumericalError naming the first number that is not finite.
 */
export function validateProblem(problem: ImportanceProblem, needs: StatisticsNeed): void {
  const { weight, statistics, unitOfChannel, unitCount } = problem;
  const channelCount = unitOfChannel.length;
  if (weight.shape.length !== 2 || weight.shape[1] !== channelCount) {
    throw new OptionError(
      `the weight is [${weight.shape.join(', ')}] and must be [out, ${channelCount}], one column for each channel`,
    );
  }
  validateUnits(unitOfChannel, unitCount);
  validateWeight(problem);
  if (needs === 'none') return;
  if (!(statistics.tokenCount >= 1)) {
    throw new OptionError(`the statistics cover ${statistics.tokenCount} tokens; this method needs at least one`);
  }
  validateSums(statistics.mean, 'mean', channelCount);
  validateSums(statistics.variance, 'variance', channelCount);
  const negative = statistics.variance.findIndex((variance) => variance < 0);
  if (negative >= 0) {
    throw new NumericalError(`the variance of channel ${negative} is ${statistics.variance[negative]}, below zero`);
  }
  if (needs === 'gram') validateSums(statistics.gram ?? new Float64Array(0), 'gram', channelCount * channelCount);
}

function validateUnits(unitOfChannel: Int32Array, unitCount: number): void {
  const seen = new Set(unitOfChannel);
  const invalid = [...seen].find((unit) => unit < 0 || unit >= unitCount);
  if (invalid !== undefined)
    throw new OptionError(`a channel belongs to unit ${invalid}; units are 0..${unitCount - 1}`);
  if (seen.size !== unitCount) {
    throw new OptionError(`only ${seen.size} of ${unitCount} units have a channel; each needs at least one`);
  }
}

/** Checks a weight in memory order: the other order takes seconds for wide ones. */
function validateWeight({ weight }: ImportanceProblem): void {
  const [rowCount = 0, columnCount = 0] = weight.shape;
  const [rowStride = 0, columnStride = 0] = weight.stride;
  const isRowMajor = Math.abs(columnStride) <= Math.abs(rowStride);
  const [outerCount, innerCount] = isRowMajor ? [rowCount, columnCount] : [columnCount, rowCount];
  const [outerStride, innerStride] = isRowMajor ? [rowStride, columnStride] : [columnStride, rowStride];
  for (let outer = 0; outer < outerCount; outer++) {
    const start = weight.offset + outer * outerStride;
    for (let inner = 0; inner < innerCount; inner++) {
      const value = weight.data[start + inner * innerStride];
      if (Number.isFinite(value)) continue;
      const [row, column] = isRowMajor ? [outer, inner] : [inner, outer];
      if (value === undefined) {
        throw new OptionError(
          `the weight's storage ends before element [${row}, ${column}] of [${rowCount}, ${columnCount}]`,
        );
      }
      throw new NumericalError(
        `the weight contains ${value} at output ${row}, channel ${column}: the model is damaged`,
      );
    }
  }
}

function validateSums(sums: Float64Array, name: string, length: number): void {
  if (sums.length !== length) {
    throw new OptionError(`this method needs the ${name} of its channels: ${length} numbers, found ${sums.length}`);
  }
  const invalid = findNonFinite(sums);
  if (invalid >= 0) {
    throw new NumericalError(
      `the ${name} of the activations contains ${sums[invalid]} at position ${invalid}: an activation overflowed, or the model is damaged`,
    );
  }
}
