import { OptionError } from '../errors.js';

/**
 * The channels of `0..channelCount-1` that are not in `keep`, ascending.
 *
 * @param keep Ascending channel indices.
 * @throws OptionError when `keep` is not ascending or names a channel that does not exist.
 */
export function removedChannels(keep: Int32Array, channelCount: number): Int32Array {
  const remains = new Uint8Array(channelCount);
  let previous = -1;
  for (const channel of keep) {
    if (channel <= previous || channel >= channelCount) {
      throw new OptionError(
        `channel ${channel} follows ${previous} in keep; expected ascending indices in 0..${channelCount - 1}`,
      );
    }
    remains[channel] = 1;
    previous = channel;
  }
  const removed = new Int32Array(channelCount - keep.length);
  let at = 0;
  for (let channel = 0; channel < channelCount; channel++) if (remains[channel] === 0) removed[at++] = channel;
  return removed;
}
