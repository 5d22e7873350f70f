/** Names with a meaning in JavaScript, in a terminal or in a file system. */
export const NASTY_NAMES: readonly string[] = [
  'valueOf',
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  'then',
  'length',
  '',
  ' ',
  '0',
  '../../etc/passwd',
  '/dev/zero',
  'a\u0000b',
  '\u001b[2J\u001b[31mred\u001b]0;title\u0007',
  '\u202eleft',
  'x'.repeat(3000),
  '%s%n$&`$1',
];

/** Integers at the limits of counts. */
export const NASTY_INTEGERS: readonly bigint[] = [
  0n,
  1n,
  -1n,
  2n,
  3n,
  7n,
  -2n,
  1000n,
  65_537n,
  2n ** 24n,
  2n ** 31n - 1n,
  2n ** 31n,
  -(2n ** 31n),
  2n ** 40n,
  2n ** 62n,
  2n ** 63n - 1n,
  -(2n ** 63n),
];

/** Floating-point numbers that break sums and formulas. */
export const NASTY_FLOATS: readonly number[] = [
  0,
  -0,
  1,
  -1,
  Number.NaN,
  Infinity,
  -Infinity,
  3e38,
  1e-45,
  1e30,
  -1e30,
];
