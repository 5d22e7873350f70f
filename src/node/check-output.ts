import { lstat, mkdtemp, readdir, rmdir, statfs } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { errorMessage } from '../error-message.js';
import { OptionError } from '../errors.js';
import type { OutputRequest } from '../runtime/platform.js';
import { adviceFor } from '../runtime/writing.js';
import { checkOwn } from './own-folder.js';
import { exists, kindOf, relativeInside, resolveLinks } from './paths.js';
import { hasCode } from './system-error.js';
import { recover } from './workspace.js';
import { workspacePath } from './workspace-path.js';

/** @see Files.checkOutput */
export async function checkOutput({ byteLength, ...request }: OutputRequest): Promise<string> {
  const { output, source } = request;
  if ((await lstat(resolve(output)).catch(() => undefined))?.isSymbolicLink())
    throw new OptionError(`The output ${output} is a link. Give the folder that it points to, or choose another.`);
  checkNames(resolve(output), output);
  const target = await resolveLinks(resolve(output));
  const from = await resolveLinks(resolve(source));
  if (relativeInside(from, target) !== undefined || relativeInside(target, from) !== undefined) {
    throw new OptionError(
      `The output ${output} and the model ${source} contain one another. Choose a folder elsewhere.`,
    );
  }
  await recover(target, output);
  await checkFree(target, request);
  const workspace = await workspacePath(target);
  const place = dirname(workspace) === target ? workspace : target;
  // Files of an interrupted run are reused or removed.
  const left = byteLength === undefined ? 0 : await bytesIn(workspace);
  await checkNew(place, { name: output, kind: 'folder', byteLength: (byteLength ?? 0) - left });
  return target;
}

/** Bytes of all files in a folder; 0 if there is none. */
async function bytesIn(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  const sizes = await Promise.all(names.map((name) => lstat(join(folder, name)).catch(() => undefined)));
  return sizes.reduce((sum, found) => sum + (found?.isFile() ? found.size : 0), 0);
}

/** Refuses an existing entry that must not be replaced. @throws OptionError */
export async function checkFree(target: string, { output, force }: Omit<OutputRequest, 'source'>): Promise<void> {
  const existing = await kindOf(target);
  if (existing === undefined) return;
  if (existing === 'file')
    throw new OptionError(`The output ${output} is a file. Choose a folder that does not exist yet.`);
  // Checked without force too: its error must not suggest force where that is refused.
  await checkOwn(target, output);
  if (!force) throw new OptionError(`The output folder ${output} exists. Choose another, or force its replacement.`);
}

/** An entry to create. */
interface NewEntry {
  /** Path as given. */
  readonly name: string;
  readonly kind: 'file' | 'folder';
  /** Smallest expected size. */
  readonly byteLength?: number | undefined;
}

/** Checks permission and free space for a file or folder. @throws OptionError */
export async function checkNew(path: string, { name, kind, byteLength = 0 }: NewEntry): Promise<void> {
  const folder = await findWritableFolder(dirname(path), { name, kind, path });
  // Some file systems do not report free space.
  const { bavail, bsize, blocks } = await statfs(folder).catch(() => ({ bavail: 0, bsize: 0, blocks: 0 }));
  const needed = Math.max(byteLength, MIN_BYTES);
  if (blocks > 0 && bavail * bsize < needed)
    throw new OptionError(
      `Cannot create ${name}: it needs at least ${Math.ceil(needed)} bytes, and ${folder} has ${bavail * bsize} free. ` +
        'Make room or choose another place.',
    );
}

/** Checks the length of names on a new path. @throws OptionError */
export function checkNames(path: string, name: string): void {
  for (const part of `${path}${PARTIAL_SUFFIX}`.split(sep)) {
    const over = Buffer.byteLength(part) - MAX_NAME_BYTES;
    if (over > 0)
      throw new OptionError(
        `Cannot create ${name}: "${part.slice(0, 20)}..." is ${over} bytes too long. Shorten that name.`,
      );
  }
}

/** Longest name of a file on Linux, macOS and Windows. */
const MAX_NAME_BYTES = 255;
/** Suffix of incomplete files. */
const PARTIAL_SUFFIX = '.fang-prune-partial';
/** Bytes of a report with its page. */
const MIN_BYTES = 2 ** 17;

/** Checks that missing folders can be created in the nearest existing one. @returns that folder */
async function findWritableFolder(folder: string, entry: NewEntry & { readonly path: string }): Promise<string> {
  try {
    // Permissions are not enough: file systems may be read-only, full or virtual.
    // The probe is named after the output, as all files that a run writes next to it.
    await rmdir(await mkdtemp(join(folder, `${basename(entry.path)}.partial-`)));
    return folder;
  } catch (cause) {
    if (hasCode(cause, 'ENOENT') && dirname(folder) !== folder && !(await exists(folder)))
      return findWritableFolder(dirname(folder), entry);
    const { name, kind } = entry;
    throw new OptionError(
      `Cannot create ${name}, since no ${kind} can be created in ${folder}: ${errorMessage(cause)}. ${adviceFor(cause)}`,
      { cause },
    );
  }
}
