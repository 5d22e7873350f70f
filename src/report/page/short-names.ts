/** Name of a file or folder without the folders it lies in. */
export function shortName(path: string): string {
  return (
    path
      .replace(/[\\/]+$/, '')
      .split(/[\\/]/)
      .at(-1) || path
  );
}

/** Short names of texts by their paths; where two would be called alike, all keep their folders. */
export function shortNames(paths: readonly string[]): ReadonlyMap<string, string> {
  const all = [...new Set(paths)];
  const short = all.map(shortName);
  const isClear = new Set(short).size === all.length;
  return new Map(all.map((path, at) => [path, isClear ? short[at]! : path]));
}
