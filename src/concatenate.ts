/** Concatenates arrays into one typed array. */
export function concatenate<T extends Float32Array | Int32Array | Uint8Array>(
  kind: new (length: number) => T,
  parts: readonly ArrayLike<number>[],
): T {
  const whole = new kind(parts.reduce((sum, { length }) => sum + length, 0));
  let end = 0;
  for (const part of parts) {
    whole.set(part, end);
    end += part.length;
  }
  return whole;
}
