/** Options that are gone, by their path in a request: what to do instead. */
export const REMOVED_OPTIONS: Readonly<Record<string, string>> = {
  gradientPower: 'leave it out; it did not improve results',
};

/** Flags that are gone: what to do instead. */
export const REMOVED_FLAGS: Readonly<Record<string, string>> = {
  '--gradient-power': 'leave it out; it did not improve results',
};
