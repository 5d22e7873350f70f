/** An object without some of its entries. */
export function omit<T extends object, Key extends keyof T>(given: T, ...keys: readonly Key[]): Omit<T, Key> {
  const left = { ...given };
  for (const key of keys) delete left[key];
  return left;
}
