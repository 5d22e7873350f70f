import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, rmdirSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ByteSink } from '../../src/onnx/byte-source.js';
import type { Files } from '../../src/runtime/platform.js';
import { writing } from '../../src/runtime/writing.js';

const full = () => Object.assign(new Error('ENOSPC: no space remaining on device, write'), { code: 'ENOSPC' });

/** Files of a disk that is full after so many bytes were written. */
export function filesWithRoom(files: Files, byteCount: number): Files {
  let remaining = byteCount;
  const take = (path: string, bytes: number) =>
    writing(path, async () => {
      remaining -= bytes;
      if (remaining < 0) throw full();
    });
  const limit = <Sink extends ByteSink>(path: string, sink: Sink): Sink => ({
    ...sink,
    async write(bytes) {
      await take(path, bytes.byteLength);
      await sink.write(bytes);
    },
  });
  return {
    ...files,
    create: async (path) => limit(path, await files.create(path)),
    async append(path, addition) {
      await take(path, Buffer.byteLength(addition.text));
      return files.append(path, addition);
    },
    writeTogether: (wanted) =>
      files.writeTogether(
        new Map([...wanted].map(([path, write]) => [path, (sink: ByteSink) => write(limit(path, sink))])),
      ),
  };
}

/** Mounts a small disk. @returns a function that unmounts it */
export function mountSmallDisk(folder: string, megabytes: number): () => void {
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', folder], { stdio: 'ignore' });
  return () => void execFileSync('umount', [folder]);
}

function canMount(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'fang-prune-mount-'));
  try {
    mountSmallDisk(folder, 1)();
    return true;
  } catch {
    return false;
  } finally {
    rmdirSync(folder);
  }
}

const mayMount = canMount();

/** `it` of tests that mount disks; they are skipped if the system does not allow that. */
export function itWithMounts(...test: Parameters<typeof it>): void {
  // Each test file has its own `it`, and the files of one worker share this module.
  (mayMount ? it : it.skip)(...test);
}

/** Fills the disk of a folder except for `leftBytes`. */
export function fillDisk(folder: string, leftBytes: number): void {
  const { bavail, bsize } = statfsSync(folder);
  appendFileSync(join(folder, 'filler'), new Uint8Array(Math.max(0, bavail * bsize - leftBytes)));
}
