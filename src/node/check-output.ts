import { mkdtemp, realpath, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { OptionError } from '../errors.js';
import { hasCode, isMissing, reason } from './file-source.js';

export interface OutputRequest {
  /** Folder to be made. */
  readonly output: string;
  /** Folder that the model comes from. */
  readonly source: string;
  /** Whether a folder that exists may be replaced. */
  readonly force?: boolean | undefined;
}

/**
 * Checks that a result can be written, before hours of work go into it.
 * @returns the absolute path of the folder to be made.
 * @throws OptionError when the folder exists (without `force`), is a file, touches the source, or no folder can be made there.
 */
export async function checkOutput({ output, source, force = false }: OutputRequest): Promise<string> {
  if (typeof output !== 'string' || output.trim() === '') throw new OptionError('The output folder has no name.');
  const target = await resolveLinks(resolve(output));
  const from = await resolveLinks(resolve(source));
  if (contains(from, target) || contains(target, from)) {
    throw new OptionError(
      `The output ${output} and the model ${source} lie in one another. Choose a folder elsewhere.`,
    );
  }
  const existing = await stat(target).catch((cause) => {
    if (isMissing(cause)) return undefined;
    throw new OptionError(`Cannot look at the output ${output}: ${reason(cause)}.`, { cause });
  });
  if (existing !== undefined && !existing.isDirectory()) {
    throw new OptionError(`The output ${output} is a file. Choose a folder that does not exist yet.`);
  }
  if (existing !== undefined && !force) {
    throw new OptionError(`The output folder ${output} exists. Choose another, or force its replacement.`);
  }
  await checkWritable(dirname(target), output);
  return target;
}

/** Folders that are missing will be made; the nearest one that exists must take them. */
async function checkWritable(folder: string, output: string): Promise<void> {
  try {
    // Permissions alone do not tell: file systems may be read-only, full or virtual.
    await rmdir(await mkdtemp(join(folder, '.fang-prune-')));
  } catch (cause) {
    if (hasCode(cause, 'ENOENT') && dirname(folder) !== folder && !(await exists(folder))) {
      return checkWritable(dirname(folder), output);
    }
    throw new OptionError(`Cannot make the output ${output}, for ${folder} takes no folder: ${reason(cause)}.`, {
      cause,
    });
  }
}

/** Whether there is anything at a path that can be looked at. */
export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** The path with links resolved as far as it exists. */
async function resolveLinks(path: string): Promise<string> {
  const real = await realpath(path).catch(() => undefined);
  if (real !== undefined || dirname(path) === path) return real ?? path;
  return join(await resolveLinks(dirname(path)), basename(path));
}

/** Whether `inner` is `outer` or lies in it. */
export function contains(outer: string, inner: string): boolean {
  const path = relative(outer, inner);
  return path !== '..' && !path.startsWith(`..${sep}`) && !isAbsolute(path);
}
