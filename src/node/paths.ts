import { realpath, stat } from 'node:fs/promises';
import path, { basename, dirname, join, type PlatformPath } from 'node:path';
import { errorMessage } from '../error-message.js';
import { OptionError } from '../errors.js';
import type { EntryKind, Files } from '../runtime/platform.js';
import { isMissing } from './system-error.js';

/** `Files.relative` for a system's path rules. */
export const relativeBy =
  ({ relative, isAbsolute, sep }: PlatformPath): Files['relative'] =>
  (folder, path) => {
    const inside = relative(folder, path);
    const isOutside = inside === '..' || inside.startsWith(`..${sep}`) || isAbsolute(inside);
    return isOutside ? undefined : inside.replaceAll(sep, '/');
  };

/** @see Files.relative */
export const relativeInside = relativeBy(path);

/** @see Files.kindOf */
export async function kindOf(path: string): Promise<EntryKind | undefined> {
  const stats = await stat(path).catch((cause) => {
    if (isMissing(cause)) return undefined;
    throw new OptionError(`Cannot read ${path}: ${errorMessage(cause)}.`, { cause });
  });
  return stats && (stats.isDirectory() ? 'folder' : 'file');
}

/** Whether a readable entry exists. */
export function exists(path: string): Promise<boolean> {
  return kindOf(path).then(
    (kind) => kind !== undefined,
    () => false,
  );
}

/** @see Files.real */
export async function resolveLinks(path: string): Promise<string> {
  const real = await realpath(path).catch(() => undefined);
  if (real !== undefined || dirname(path) === path) return real ?? path;
  return join(await resolveLinks(dirname(path)), basename(path));
}
