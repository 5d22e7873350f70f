import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorMessage } from '../error-message.js';
import { ModelFormatError } from '../errors.js';
import type { ScratchFile } from '../runtime/tensor-store.js';
import { writing } from '../runtime/writing.js';

/**
 * Makes a temporary file. Where supported, the file is unlinked at once, so that its space is freed however the process
 * ends.
 * @param parent existing folder to put the file into
 * @throws OptionError when no file can be created there.
 */
export async function createSpillFile(parent = tmpdir()): Promise<ScratchFile> {
  const folder = await writing(parent, () => mkdtemp(join(parent, 'fang-prune-')));
  return openScratch(join(folder, 'spill'), folder);
}

/** Creates a scratch file at a given path. @throws OptionError when the file cannot be made. */
export const createScratchFile = (path: string): Promise<ScratchFile> => openScratch(path, path);

/** @param removed path to remove when the file is no longer needed, or at once where supported */
async function openScratch(path: string, removed: string): Promise<ScratchFile> {
  const file = await writing(path, () => open(path, 'wx+'));
  const remove = () => rm(removed, { recursive: true, force: true }).catch(() => undefined);
  await remove();
  return {
    async write(offset, bytes) {
      for (let written = 0; written < bytes.byteLength; ) {
        const rest = bytes.byteLength - written;
        const result = await writing(path, () => file.write(bytes, written, rest, offset + written));
        written += result.bytesWritten;
      }
    },
    async readInto(offset, bytes) {
      const { byteLength: length } = bytes;
      for (let filled = 0; filled < length; ) {
        const { bytesRead } = await file.read(bytes, filled, length - filled, offset + filled).catch((cause) => {
          throw new ModelFormatError(`Cannot read the temporary file ${path}: ${errorMessage(cause)}.`, { cause });
        });
        if (bytesRead === 0)
          throw new ModelFormatError(`${path}: ${length} bytes from ${offset} leave the temporary file.`);
        filled += bytesRead;
      }
    },
    async dispose() {
      await file.close().catch(() => undefined);
      await remove();
    },
  };
}
