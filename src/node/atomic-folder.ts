import { randomBytes } from 'node:crypto';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { OptionError } from '../errors.js';
import { writing } from './file-folder.js';

export interface AtomicFolderOptions {
  /** Whether a folder that exists is replaced; it is removed only when the new one is complete. */
  readonly force?: boolean | undefined;
}

/**
 * Makes a folder that appears under its name only when it is complete: it is built beside it and renamed. When `build`
 * fails nothing is left.
 * @param target absolute path, as `checkOutput` returns it
 * @param build fills the folder whose path it gets
 * @throws OptionError when the folder exists (without `force`) or cannot be made; whatever `build` throws.
 */
export async function buildFolder<T>(
  target: string,
  build: (folder: string) => Promise<T>,
  { force = false }: AtomicFolderOptions = {},
): Promise<T> {
  const suffix = `${process.pid}-${randomBytes(4).toString('hex')}`;
  const partial = `${target}.partial-${suffix}`;
  try {
    await writing(partial, () => mkdir(partial, { recursive: true }));
    const result = await build(partial);
    await moveInto(partial, target, force ? `${target}.replaced-${suffix}` : undefined);
    return result;
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}

/** @param aside where an existing folder waits; undefined = it must not exist */
async function moveInto(partial: string, target: string, aside: string | undefined): Promise<void> {
  const exists = await stat(target).then(
    () => true,
    () => false,
  );
  if (!exists) return writing(target, () => rename(partial, target));
  if (aside === undefined)
    throw new OptionError(`The output folder ${target} exists. Choose another, or force its replacement.`);
  await writing(target, () => rename(target, aside));
  try {
    await writing(target, () => rename(partial, target));
  } catch (error) {
    await rename(aside, target);
    throw error;
  }
  await rm(aside, { recursive: true, force: true });
}
