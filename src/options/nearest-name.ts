/** The closest name to a misspelt one; undefined if none is close. */
export function nearestName(given: string, names: readonly string[]): string | undefined {
  // Long texts are not misspelt names, and their distance is slow to compute.
  if (given.length > LONGEST) return undefined;
  const limit = Math.max(1, Math.floor(given.length / 3));
  const ranked = names
    .map((name) => ({ name, distance: editDistance(given.toLowerCase(), name.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance);
  if (ranked[0] !== undefined && ranked[0].distance <= limit) return ranked[0].name;
  // `fang` of `f-fang` and `o-fang`.
  return given.length < 3 ? undefined : names.find((name) => name.toLowerCase().includes(given.toLowerCase()));
}

const LONGEST = 64;

/** Edit distance (Levenshtein). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (const [at, letter] of [...a].entries()) {
    const next = [at + 1];
    for (let end = 1; end <= b.length; end++)
      next.push(Math.min(next[end - 1]! + 1, row[end]! + 1, row[end - 1]! + (b[end - 1] === letter ? 0 : 1)));
    row = next;
  }
  return row[b.length]!;
}
