import { randomBytes } from 'node:crypto';
import { mkdir, rename, rm } from 'node:fs/promises';
import { OptionError } from '../../errors.js';
import type { Files } from '../platform.js';
import { writing } from '../writing.js';
import { checkOutput } from './check-output.js';
import { exists } from './paths.js';

/** The folder is built beside its place and renamed; one that exists is removed when the new one is complete. @see Files */
export const buildFolder: Files['buildFolder'] = async (request, build) => {
  const target = await checkOutput(request);
  const suffix = `${process.pid}-${randomBytes(4).toString('hex')}`;
  const partial = `${target}.partial-${suffix}`;
  try {
    await writing(partial, () => mkdir(partial, { recursive: true }));
    const result = await build(partial);
    await moveInto(partial, target, request.force ? `${target}.replaced-${suffix}` : undefined);
    return result;
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
};

/** @param aside where an existing folder waits; undefined = it must not exist */
async function moveInto(partial: string, target: string, aside: string | undefined): Promise<void> {
  if (!(await exists(target))) return writing(target, () => rename(partial, target));
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
