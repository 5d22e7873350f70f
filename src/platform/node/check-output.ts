import { mkdtemp, realpath, rmdir } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { OptionError } from '../../errors.js';
import { reason } from '../../reason.js';
import type { OutputRequest } from '../platform.js';
import { exists, kindOf, relativeInside } from './paths.js';
import { hasCode } from './system-error.js';

/** @see Files.checkOutput */
export async function checkOutput({ output, source, force = false }: OutputRequest): Promise<string> {
  if (typeof output !== 'string' || output.trim() === '') throw new OptionError('The output folder has no name.');
  const target = await resolveLinks(resolve(output));
  const from = await resolveLinks(resolve(source));
  if (relativeInside(from, target) !== undefined || relativeInside(target, from) !== undefined) {
    throw new OptionError(
      `The output ${output} and the model ${source} lie in one another. Choose a folder elsewhere.`,
    );
  }
  const existing = await kindOf(target);
  if (existing === 'file') {
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

/** The path with links resolved as far as it exists. */
async function resolveLinks(path: string): Promise<string> {
  const real = await realpath(path).catch(() => undefined);
  if (real !== undefined || dirname(path) === path) return real ?? path;
  return join(await resolveLinks(dirname(path)), basename(path));
}
