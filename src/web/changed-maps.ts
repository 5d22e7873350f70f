type FileMap = Map<string, unknown>;

/** Changes of a map of files: new or changed ones, and the names of removed ones. */
export interface MapChange {
  readonly set: ReadonlyMap<string, unknown>;
  readonly gone: readonly string[];
}

/** Maps in a request, in the same order for copies of the request. */
export function mapsIn(value: unknown): FileMap[] {
  if (value instanceof Map) return [value];
  if (Array.isArray(value)) return value.flatMap(mapsIn);
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return [];
  return Object.values(value).flatMap(mapsIn);
}

/** @returns a function that returns the changes of maps since this call */
export function watchMaps(maps: readonly FileMap[]): () => readonly MapChange[] {
  const before = maps.map((map) => new Map(map));
  return () =>
    maps.map((map, at) => ({
      set: new Map([...map].filter(([path, bytes]) => before[at]!.get(path) !== bytes)),
      gone: [...before[at]!.keys()].filter((path) => !map.has(path)),
    }));
}

/** Applies changes of copies to the original maps. */
export function changeMaps(maps: readonly FileMap[], changes: readonly MapChange[]): void {
  for (const [at, { set, gone }] of changes.entries()) {
    for (const path of gone) maps[at]!.delete(path);
    for (const [path, bytes] of set) maps[at]!.set(path, bytes);
  }
}

/** Buffers of changed files, which can be transferred. */
export function buffersOf(changes: readonly MapChange[]): ArrayBuffer[] {
  const bytes = changes.flatMap(({ set }) => [...set.values()].filter((file) => file instanceof Uint8Array));
  return [...new Set(bytes.map(({ buffer }) => buffer as ArrayBuffer))];
}
