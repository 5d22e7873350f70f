/** Which channels belong to which unit; `ImportanceProblem` is one. */
export interface UnitMap {
  /** Unit of each channel, `0..unitCount-1`. */
  readonly unitOfChannel: Int32Array;
  readonly unitCount: number;
}

/**
 * How the scores of a head's channels become one score: `sum`, or `sum-of-squares`, which FLAP's published code uses.
 * A unit of a single channel keeps that channel's score.
 */
export type UnitAggregate = 'sum' | 'sum-of-squares';

/** Sums channel scores over each unit's channels. @returns Length `unitCount`. */
export function sumOverUnits(
  channelScores: Float64Array,
  { unitOfChannel, unitCount }: UnitMap,
  aggregate: UnitAggregate = 'sum',
): Float64Array {
  const sums = new Float64Array(unitCount);
  const squared = aggregate === 'sum-of-squares' && unitCount < channelScores.length;
  for (let channel = 0; channel < channelScores.length; channel++) {
    const score = channelScores[channel]!;
    sums[unitOfChannel[channel]!]! += squared ? score * score : score;
  }
  return sums;
}

/** Lists each unit's channels, ascending. */
export function channelsOfUnits({ unitOfChannel, unitCount }: UnitMap): Int32Array[] {
  const channels: number[][] = Array.from({ length: unitCount }, () => []);
  unitOfChannel.forEach((unit, channel) => {
    channels[unit]!.push(channel);
  });
  return channels.map((list) => Int32Array.from(list));
}
