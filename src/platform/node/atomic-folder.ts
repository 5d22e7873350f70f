import { mkdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type FoundFile, formatManifest, MANIFEST } from '../folder-manifest.js';
import type { Files, OutputRequest } from '../platform.js';
import { writing } from '../writing.js';
import { checkFree, checkOutput, checkOwn, walkFolder } from './check-output.js';
import { createFileSink, syncFolder } from './file-sink.js';
import { exists } from './paths.js';
import { type HeldWorkspace, holdWorkspace } from './workspace.js';

/**
 * The folder is built in a workspace beside its place and renamed; one that exists is removed when the new one is complete.
 * @see Files
 */
export const buildFolder: Files['buildFolder'] = async (request, build) => {
  const target = await checkOutput(request);
  const workspace = await holdWorkspace(target, request.output);
  const { result } = workspace;
  try {
    await rm(result, { recursive: true, force: true });
    await writing(result, () => mkdir(result));
    const made = await build(result);
    await writeManifest(result, request.run);
    await moveInto(workspace, target, request);
    return made;
  } finally {
    await rm(result, { recursive: true, force: true });
    await workspace.release();
  }
};

/** A folder is on the disk only when the list of its files is. */
async function writeManifest(folder: string, run: string | undefined): Promise<void> {
  const files: FoundFile[] = [];
  for await (const file of walkFolder(folder)) files.push(file);
  const sink = await createFileSink(join(folder, MANIFEST));
  await sink.write(formatManifest(files, run)).finally(() => sink.close());
  for (const inside of new Set(files.map(({ path }) => dirname(path)).concat('.')))
    await syncFolder(join(folder, inside));
}

/** Hours may have passed, so an existing folder is looked at again, and once more when nobody knows its name. */
async function moveInto({ result, replaced }: HeldWorkspace, target: string, request: OutputRequest): Promise<void> {
  await checkFree(target, request);
  const isThere = await exists(target);
  // Of a run that was cut off when the new one had its name.
  await rm(replaced, { recursive: true, force: true });
  if (isThere) await writing(target, () => rename(target, replaced));
  try {
    if (isThere) await checkOwn(replaced, request.output);
    await writing(target, () => rename(result, target));
  } catch (error) {
    if (isThere) await rename(replaced, target);
    throw error;
  }
  await syncFolder(dirname(target));
  await rm(replaced, { recursive: true, force: true });
}
