import type { LogitsTensor } from './token-scorer.js';

/**
 * Whether each target has the largest logit of its row, the first of equals. Mostly some other logit is larger, which
 * ends the search early.
 * @param logits `[R, V]`.
 * @param targets R token ids.
 */
export function isLikeliest(logits: LogitsTensor, targets: Int32Array): boolean {
  const width = logits.dims.at(-1) ?? 0;
  const { type, data } = logits;
  const valueAt = (at: number) => (type === 'float32' ? data[at]! : inOrder(data[at]!));
  return targets.every((target, row) => {
    const start = row * width;
    const own = valueAt(start + target);
    for (let token = 0; token < width; token++) {
      const other = valueAt(start + token);
      if (other > own || (other === own && token < target)) return false;
    }
    return true;
  });
}

/** An integer that orders half-precision bits as their numbers: sign and magnitude to two's complement. */
function inOrder(half: number): number {
  return half & 0x8000 ? -(half & 0x7fff) : half;
}
