import { randomBytes } from 'node:crypto';
import { mkdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type FoundFile, formatManifest, MANIFEST } from '../folder-manifest.js';
import type { Files, OutputRequest } from '../platform.js';
import { writing } from '../writing.js';
import { ASIDE, checkFree, checkOutput, checkOwn, walkFolder } from './check-output.js';
import { createFileSink, syncFolder } from './file-sink.js';
import { exists } from './paths.js';

/** The folder is built beside its place and renamed; one that exists is removed when the new one is complete. @see Files */
export const buildFolder: Files['buildFolder'] = async (request, build) => {
  const target = await checkOutput(request);
  const suffix = `${process.pid}-${randomBytes(4).toString('hex')}`;
  const partial = `${target}.partial-${suffix}`;
  try {
    await writing(partial, () => mkdir(partial, { recursive: true }));
    const result = await build(partial);
    await writeManifest(partial);
    await moveInto(partial, target, { ...request, aside: target + ASIDE + suffix });
    return result;
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
};

/** A folder is on the disk only when the list of its files is. */
async function writeManifest(folder: string): Promise<void> {
  const files: FoundFile[] = [];
  for await (const file of walkFolder(folder)) files.push(file);
  const sink = await createFileSink(join(folder, MANIFEST));
  await sink.write(formatManifest(files)).finally(() => sink.close());
  for (const inside of new Set(files.map(({ path }) => dirname(path)).concat('.')))
    await syncFolder(join(folder, inside));
}

/** Hours may have passed, so an existing folder is looked at again, and once more when nobody knows its name. */
async function moveInto(
  partial: string,
  target: string,
  { aside, ...request }: OutputRequest & { readonly aside: string },
): Promise<void> {
  await checkFree(target, request);
  const isThere = await exists(target);
  if (isThere) await writing(target, () => rename(target, aside));
  try {
    if (isThere) await checkOwn(aside, request.output);
    await writing(target, () => rename(partial, target));
  } catch (error) {
    if (isThere) await rename(aside, target);
    throw error;
  }
  await syncFolder(dirname(target));
  if (isThere) await rm(aside, { recursive: true, force: true });
}
