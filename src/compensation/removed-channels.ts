/** The channels of `0..channelCount-1` that are not in `keep`, ascending. */
export function removedChannels(keep: Int32Array, channelCount: number): Int32Array {
  const kept = new Uint8Array(channelCount);
  for (const channel of keep) kept[channel] = 1;
  const removed = new Int32Array(channelCount - keep.length);
  let at = 0;
  for (let channel = 0; channel < channelCount; channel++) if (kept[channel] === 0) removed[at++] = channel;
  return removed;
}
