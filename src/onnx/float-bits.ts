/** Bits of the float32 with the same value as a float16; exact, with NaN payloads. */
export function float16ToFloat32Bits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return (sign | 0x7f800000 | (fraction << 13)) >>> 0;
  if (exponent !== 0) return (sign | ((exponent + 112) << 23) | (fraction << 13)) >>> 0;
  if (fraction === 0) return sign >>> 0;
  // Subnormal: shift the highest set bit up to the implicit one.
  const shift = Math.clz32(fraction) - 21;
  return (sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13)) >>> 0;
}

/** Bits of the float16 nearest to a float32, ties to even; too large becomes infinity. */
export function float32ToFloat16Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >>> 13) & 0x3ff);
  // 65520 is halfway between the largest float16 and the next step.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  // Nearly all weights: `roundToEven(magnitude, 13)` in whole numbers, with the exponent's bias of 15 in place of 127.
  if (magnitude >= 0x38800000) return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  // Below half of the smallest subnormal, 2^-25, everything rounds to zero.
  if (magnitude < 0x33000000) return sign;
  return sign | roundToEven((magnitude & 0x7fffff) | 0x800000, 126 - (magnitude >>> 23));
}

/** Bits of the float32 with the same value as a bfloat16. */
export function bfloat16ToFloat32Bits(brain: number): number {
  return (brain << 16) >>> 0;
}

/** Bits of the bfloat16 nearest to a float32, ties to even; too large becomes infinity. */
export function float32ToBfloat16Bits(bits: number): number {
  // Rounding must not carry a NaN into infinity.
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return roundToEven(bits >>> 0, 16) & 0xffff;
}

/** `value >>> shift`, rounded to nearest, ties to even; `value` unsigned, shift 1..31. */
function roundToEven(value: number, shift: number): number {
  const floor = value >>> shift;
  const rest = value - floor * 2 ** shift;
  const half = 2 ** (shift - 1);
  return rest > half || (rest === half && (floor & 1) === 1) ? floor + 1 : floor;
}
