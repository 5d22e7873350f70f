/** Last part of a path. */
export function shortName(path: string): string {
  return (
    path
      .replace(/[\\/]+$/, '')
      .split(/[\\/]/)
      .at(-1) || path
  );
}

/** Last parts of paths, if these are unique; otherwise the paths. */
export function shortNames(paths: readonly string[]): ReadonlyMap<string, string> {
  const all = [...new Set(paths)];
  const short = all.map(shortName);
  const isClear = new Set(short).size === all.length;
  return new Map(all.map((path, at) => [path, isClear ? short[at]! : path]));
}
