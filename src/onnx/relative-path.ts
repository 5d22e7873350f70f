/**
 * A path inside a folder in its plain form (`./a//b` becomes `a/b`), or undefined when it is empty or absolute, or has a
 * drive letter or `..`. Backslashes count as separators, so that the result is the same on every system.
 */
export function normaliseRelativePath(path: string): string | undefined {
  if (/^[a-z]:/i.test(path) || /^[\\/]/.test(path) || path.includes('\0')) return undefined;
  const segments = path.split(/[\\/]/);
  if (segments.includes('..')) return undefined;
  return segments.filter((segment) => segment !== '' && segment !== '.').join('/') || undefined;
}
